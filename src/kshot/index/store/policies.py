"""Policies and their variants: what may be chosen, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from kshot.errors import Conflict, PolicyExists, PolicyNotFound, VariantNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import decisions, feedback, policies, policy_states, variants
from kshot.index.store.scope import visible

_p, _v = policies.c, variants.c


class NewVariant(NamedTuple):
    """A variant as it is about to be added; ``config`` is validated by the wire models."""

    name: str
    status: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVariant:
    """One variant of a policy."""

    name: str
    #: Its place in the order of their creation, from 0.
    position: int
    status: str
    config: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """A policy with all its variants, in the order of their creation."""

    id: int
    name: str
    version: int
    #: Validated by `kshot.schemas.policies.PolicySettings`; opaque to the store.
    config: Mapping[str, Any]
    variants: tuple[StoredVariant, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def stamp(self) -> "PolicyStamp":
        """What changes whenever anything of the policy does."""
        return PolicyStamp(self.id, self.version, self.updated_at)


class PolicyStamp(NamedTuple):
    """Which state of its definition a policy is in."""

    id: int
    version: int
    updated_at: datetime


class PolicyTable(Transactions):
    """Reads and writes policies and variants."""

    def create_policy(
        self, name: str, config: Mapping[str, Any], new_variants: Sequence[NewVariant]
    ) -> StoredPolicy:
        """Create a policy at version 1; `PolicyExists` if the name is taken."""
        now = self._clock()
        row = {"name": name, "version": 1, "config": config, "created_at": now, "updated_at": now}
        with self._write() as connection:
            statement = self._database.insert_if_absent(policies).returning(_p.id)
            policy_id = connection.execute(statement, row).scalar()
            if policy_id is None:
                raise PolicyExists(f"a policy named {name!r} exists already")
            for position, variant in enumerate(new_variants):
                connection.execute(insert(variants), _row(policy_id, position, variant, now))
            return _policy(connection, _p.id == policy_id, name)

    def get_policy(self, name: str) -> StoredPolicy:
        """Return a policy; `PolicyNotFound` if there is none of that name."""
        with self._snapshot() as connection:
            return _policy(connection, _p.name == name, name)

    def get_policy_by_id(self, policy_id: int) -> StoredPolicy:
        """Return a policy; `PolicyNotFound` if there is none of that number."""
        with self._snapshot() as connection:
            return _policy(connection, _p.id == policy_id, policy_id)

    def list_policies(self, *, after: str | None = None, limit: int = 100) -> list[StoredPolicy]:
        """Return a page of policies by name."""
        statement = select(_p.id).where(visible(policies)).order_by(_p.name).limit(limit)
        if after is not None:
            statement = statement.where(_p.name > after)
        with self._snapshot() as connection:
            ids = connection.scalars(statement).all()
            return [_policy(connection, _p.id == policy_id, policy_id) for policy_id in ids]

    def policy_stamps(self) -> list[PolicyStamp]:
        """Return which state every policy's definition is in, by number."""
        statement = select(_p.id, _p.version, _p.updated_at).where(visible(policies)).order_by(_p.id)
        with self._read() as connection:
            return [PolicyStamp(*row) for row in connection.execute(statement)]

    def policies_over_pool(self, pool: str) -> list[str]:
        """Return the names of policies whose context names a pool."""
        statement = select(_p.name, _p.config).where(visible(policies)).order_by(_p.name)
        with self._read() as connection:
            rows = connection.execute(statement).all()
        return [row.name for row in rows if row.config.get("context", {}).get("pool") == pool]

    def update_policy(
        self, policy_id: int, config: Mapping[str, Any], *, expected: PolicyStamp, learns_anew: bool
    ) -> StoredPolicy:
        """Replace a policy's settings; with ``learns_anew`` its version grows and its saved states go.

        Raises
        ------
        PolicyNotFound
            There is no such policy.
        Conflict
            Somebody changed it since ``expected`` was read.
        """
        with self._write() as connection:
            found = _policy(connection, _p.id == policy_id, policy_id, lock=True)
            if found.stamp != expected:
                raise Conflict(f"policy {found.name!r} was changed meanwhile; read it again")
            values = {"config": config, "version": found.version + learns_anew}
            connection.execute(update(policies).where(_p.id == policy_id).values(values))
            if learns_anew:
                connection.execute(delete(policy_states).where(policy_states.c.policy_id == policy_id))
            self._touch(connection, found)
            return _policy(connection, _p.id == policy_id, policy_id)

    def delete_policy(self, name: str) -> None:
        """Delete a policy with its variants, decisions, states and feedback; `PolicyNotFound` if none."""
        with self._append() as connection:
            policy_id = connection.scalar(select(_p.id).where(_p.name == name, visible(policies)))
            if policy_id is None:
                raise PolicyNotFound(f"no policy is named {name!r}")
            connection.execute(delete(feedback).where(feedback.c.policy_id == policy_id))
            connection.execute(delete(policies).where(_p.id == policy_id))

    def add_variant(self, policy_id: int, variant: NewVariant) -> StoredPolicy:
        """Add a variant; `Conflict` if the policy has one of that name."""
        now = self._clock()
        with self._write() as connection:
            found = _policy(connection, _p.id == policy_id, policy_id, lock=True)
            if any(present.name == variant.name for present in found.variants):
                raise Conflict(
                    f"policy {found.name!r} has a variant {variant.name!r} already, and what it says never "
                    "changes; add an edit under another name with parent"
                )
            connection.execute(insert(variants), _row(policy_id, len(found.variants), variant, now))
            self._touch(connection, found)
            return _policy(connection, _p.id == policy_id, policy_id)

    def update_variant(
        self, policy_id: int, name: str, *, status: str | None = None, changes: Mapping[str, Any]
    ) -> StoredPolicy:
        """Change a variant's status and some fields of its config; `VariantNotFound` if there is none."""
        with self._write() as connection:
            found = _policy(connection, _p.id == policy_id, policy_id, lock=True)
            present = next((variant for variant in found.variants if variant.name == name), None)
            if present is None:
                known = ", ".join(variant.name for variant in found.variants)
                raise VariantNotFound(f"policy {found.name!r} has no variant {name!r}; it has {known}")
            values = {
                "status": status or present.status,
                "config": {**present.config, **changes},
                "updated_at": self._clock(),
            }
            where = and_(_v.policy_id == policy_id, _v.name == name, visible(variants))
            connection.execute(update(variants).where(where).values(values))
            self._touch(connection, found)
            return _policy(connection, _p.id == policy_id, policy_id)

    def count_decisions(self, policy_id: int) -> int:
        """Return how many decisions of a policy are kept."""
        where = and_(decisions.c.policy_id == policy_id, visible(decisions))
        with self._read() as connection:
            return connection.scalar(select(func.count()).select_from(decisions).where(where)) or 0

    def _touch(self, connection: Connection, found: StoredPolicy) -> None:
        # Never the same moment twice: it is how other processes see that something changed.
        now = max(self._clock(), found.updated_at + _INSTANT)
        connection.execute(update(policies).where(_p.id == found.id).values(updated_at=now))


_INSTANT = datetime.resolution


def _row(policy_id: int, position: int, variant: NewVariant, now: datetime) -> dict[str, Any]:
    times = {"created_at": now, "updated_at": now}
    return {"policy_id": policy_id, "position": position, **variant._asdict(), **times}


def _policy(
    connection: Connection, where: ColumnElement[bool], named: str | int, *, lock: bool = False
) -> StoredPolicy:
    statement = select(*policies.c).where(where, visible(policies))
    found = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if found is None:
        raise PolicyNotFound(
            f"no policy is named {named!r}" if isinstance(named, str) else f"no policy has number {named}"
        )
    of_it = and_(_v.policy_id == found.id, visible(variants))
    rows = connection.execute(select(*variants.c).where(of_it).order_by(_v.position)).all()
    return StoredPolicy(
        id=found.id,
        name=found.name,
        version=found.version,
        config=found.config,
        variants=tuple(_variant(row) for row in rows),
        created_at=found.created_at,
        updated_at=found.updated_at,
    )


def _variant(row: Row[tuple[Any, ...]]) -> StoredVariant:
    return StoredVariant(
        name=row.name,
        position=row.position,
        status=row.status,
        config=row.config,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
