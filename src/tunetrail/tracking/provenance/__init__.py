"""What a run is made from: code, packages, machine, data, weights."""

from tunetrail.models.fingerprint import fingerprint_weights
from tunetrail.tracking.provenance.code import Code, LeftOut, describe_code
from tunetrail.tracking.provenance.data import (
    SplitFingerprint,
    combine_fingerprints,
    describe_fingerprints,
    fingerprint_data,
    shorten,
)
from tunetrail.tracking.provenance.machine import describe_machine, list_packages

__all__ = [
    "Code",
    "LeftOut",
    "SplitFingerprint",
    "combine_fingerprints",
    "describe_code",
    "describe_fingerprints",
    "describe_machine",
    "fingerprint_data",
    "fingerprint_weights",
    "list_packages",
    "shorten",
]
