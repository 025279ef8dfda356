"""A search space whose third trial is drawn while the database takes the turn away."""

import time

from sqlalchemy import text

END_TURNS = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"


def lose_turn(config, trial):
    del config
    if trial.number != 3:
        return
    with trial.study._storage._backend.engine.begin() as connection:
        connection.execute(text(END_TURNS))
    until = time.monotonic() + 20
    while len(trial.study.trials) == trial.number + 1 and time.monotonic() < until:
        time.sleep(0.05)
