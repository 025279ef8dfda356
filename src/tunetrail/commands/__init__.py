"""The commands of ``tunetrail``, a module each."""
