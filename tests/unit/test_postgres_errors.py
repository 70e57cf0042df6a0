"""Every error of PostgreSQL as an error of the store."""

import psycopg
import pytest
from psycopg import errors as driver_errors
from sqlalchemy import exc

from captiond.errors import (
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreConflict,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
    StoreUncertain,
    StoreUnreachable,
)
from captiond.store.backend import Phase
from captiond.store.postgres_errors import CLASSES, STATES, as_store_errors

ALL_STATES: dict[str, type[psycopg.Error]] = {
    state: each
    for each in vars(driver_errors).values()
    if isinstance(each, type)
    and issubclass(each, psycopg.Error)
    and (state := each.sqlstate) is not None
    and isinstance(state, str)
}
UNRAISED = {"00", "01", "10"}  # classes without an error in the driver
MEANT = {
    "08006": StoreConflict,
    "22021": StoreRefused,
    "23505": StoreRefused,
    "25006": StoreReadOnly,
    "25P03": StoreConflict,
    "28P01": StorageFailed,
    "3D000": StorageFailed,
    "40001": StoreConflict,
    "40P01": StoreConflict,
    "42501": StorageFailed,
    "42P01": StoreRefused,
    "53100": NoSpace,
    "53200": StorageFailed,
    "53300": StoreUnreachable,
    "55P03": StoreBusy,
    "57014": StoreBusy,
    "57P01": StoreConflict,
    "57P02": StoreConflict,
    "57P03": StoreUnreachable,
    "58030": StorageFailed,
    "XX001": StoreDamaged,
    "XX002": StoreDamaged,
}


def raised_for(error: BaseException, phase: Phase) -> type[StoreError]:
    with pytest.raises(StoreError) as raised, as_store_errors(phase):
        raise exc.DBAPIError.instance("SELECT 1", {}, error, psycopg.Error)
    return type(raised.value)


@pytest.mark.parametrize("state", sorted(ALL_STATES))
def test_every_sqlstate_is_mapped_on_purpose(state: str) -> None:
    assert state[:2] in CLASSES
    kind = raised_for(ALL_STATES[state]("what the server says"), Phase())
    assert kind is (STATES.get(state) or CLASSES[state[:2]])[0]
    assert kind is MEANT.get(state, kind)


def test_no_class_is_made_up_and_no_state_is_forgotten() -> None:
    assert {state[:2] for state in ALL_STATES} >= set(CLASSES) - UNRAISED
    assert set(MEANT) | set(STATES) <= set(ALL_STATES)


@pytest.mark.parametrize(
    ("error", "kind", "in_commit"),
    [
        (psycopg.OperationalError("server closed the connection"), StoreConflict, StoreUncertain),
        (driver_errors.AdminShutdown("terminated"), StoreConflict, StoreUncertain),
        (driver_errors.SerializationFailure("conflict"), StoreConflict, StoreConflict),
        (driver_errors.DiskFull("no space"), NoSpace, NoSpace),
        (psycopg.DataError("cannot contain NUL"), StoreRefused, StoreRefused),
    ],
)
def test_a_connection_that_is_lost_in_a_commit_leaves_it_open(
    error: psycopg.Error, kind: type[StoreError], in_commit: type[StoreError]
) -> None:
    assert raised_for(error, Phase()) is kind
    assert raised_for(error, Phase(commits=True)) is in_commit
