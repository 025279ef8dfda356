"""A Hydra sweeper that keeps an Optuna study: pruning, continuation, workers that join.

``hydra/sweeper: optuna_study`` chooses it; :mod:`hydra_plugins.optuna_study.sweeper` says how.
"""
