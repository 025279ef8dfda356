"""Find out in seconds whether the Hugging Face hub can be reached.

Without a network its own library retries for most of a minute before it looks into the local cache.
"""

from functools import lru_cache

import requests
from huggingface_hub import constants


@lru_cache(maxsize=1)
def is_reachable() -> bool:
    """Ask the hub once per process; also False if HF_HUB_OFFLINE is set."""
    if constants.is_offline_mode():
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=5)
    except requests.RequestException:
        return False
    return True
