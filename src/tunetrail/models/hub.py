"""Whether the Hugging Face hub can be asked, found out in seconds.

Left alone, its library retries an absent network for most of a minute before it looks into the
local cache.
"""

from functools import lru_cache

import requests
from huggingface_hub import constants


@lru_cache(maxsize=1)
def is_reachable() -> bool:
    """Ask the hub once a process; False too where HF_HUB_OFFLINE is set."""
    if constants.is_offline_mode():
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=5)
    except requests.RequestException:
        return False
    return True
