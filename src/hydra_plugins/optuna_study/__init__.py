"""A Hydra sweeper that runs an Optuna study: pruning, continuation, several workers.

``hydra/sweeper: optuna_study`` chooses it; :mod:`hydra_plugins.optuna_study.sweeper` says how.
"""
