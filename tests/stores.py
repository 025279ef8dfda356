"""Stores as an older MLflow left them, made by MLflow's own migrations."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from mlflow.store.db import utils as mlflow_database
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from tunetrail.tracking import database

RUN_ID = "0123456789abcdef" * 2
# Of MLflow 2.13: it lacks tables that came later.
OLDER = "867495a8f9d4"


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def refuse_tags(path: Path) -> None:
    """Let a store refuse tags of experiments, as a server does where a person may only read."""
    execute(
        path,
        "CREATE TRIGGER refuse BEFORE INSERT ON experiment_tags "
        "BEGIN SELECT RAISE(ABORT, 'only reading is allowed'); END",
    )


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def make_older(path: Path, revision: str | None = OLDER) -> None:
    """Make the tables of a revision; None: the first tables, which have none."""
    with database._engine(path) as engine:
        InitialBase.metadata.create_all(engine)
        config = mlflow_database._get_alembic_config(f"sqlite:///{path}")
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            if revision is not None:
                command.upgrade(config, revision)


def fill(path: Path) -> None:
    """Add an experiment with a run."""
    execute(
        path,
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        "VALUES (0, 'Default', 'mlruns/0', 'active'), (7, 'old', 'mlruns/7', 'active')",
        "INSERT INTO runs (run_uuid, name, experiment_id, status, lifecycle_stage, start_time, "
        f"user_id, artifact_uri) VALUES ('{RUN_ID}', 'kept', 7, 'FINISHED', 'active', 1, 'me', "
        "'mlruns/7/a')",
    )
