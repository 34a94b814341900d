"""Templates and their versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from chassis.errors import AlreadyExists, FailedPrecondition
from waybill.notify.v1 import notify_pb2

from notify_service.references import template_not_found
from notify_service.schema import SUBSCRIPTIONS, TEMPLATE_VERSIONS, TEMPLATES, insert_new, now_us

_CURRENT = sa.select(TEMPLATES, TEMPLATE_VERSIONS.c.subject, TEMPLATE_VERSIONS.c.text, TEMPLATE_VERSIONS.c.html).join(
    TEMPLATE_VERSIONS,
    sa.and_(
        TEMPLATE_VERSIONS.c.template_id == TEMPLATES.c.template_id, TEMPLATE_VERSIONS.c.version == TEMPLATES.c.version
    ),
)


class Templates:
    """Each change of a template's text is a version of its own. NotFound's reason is TEMPLATE_NOT_FOUND."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, template: notify_pb2.Template) -> notify_pb2.Template:
        """Versions go on from those of a deleted template of that id. Raises AlreadyExists."""
        template_id, now = template.template_id, now_us()
        with self._engine.begin() as connection:
            version = 1 + _last_version(connection, template_id)
            row = {"template_id": template_id, "version": version, "create_time_us": now, "update_time_us": now}
            if not insert_new(connection, TEMPLATES, row, "template_id"):
                raise AlreadyExists(
                    f"template {template_id!r} exists already",
                    reason="TEMPLATE_EXISTS",
                    metadata={"template_id": template_id},
                )
            _add_version(connection, template, version)
            return _require(connection, template_id)

    def update(self, template: notify_pb2.Template) -> notify_pb2.Template:
        """Replaces the text; the same text again is no change. Raises NotFound."""
        template_id = template.template_id
        with self._engine.begin() as connection:
            connection.execute(sa.select(TEMPLATES).where(TEMPLATES.c.template_id == template_id).with_for_update())
            stored = _require(connection, template_id)
            if _text(stored) != _text(template):
                _add_version(connection, template, stored.version + 1)
                changed = sa.update(TEMPLATES).where(TEMPLATES.c.template_id == template_id)
                connection.execute(changed.values(version=stored.version + 1, update_time_us=now_us()))
            return _require(connection, template_id)

    def get(self, template_id: str) -> notify_pb2.Template:
        """The current version. Raises NotFound."""
        with self._engine.connect() as connection:
            return _require(connection, template_id)

    def existing(self, template_ids: Collection[str]) -> set[str]:
        """Those of the ids, at most 1,000, that a template has."""
        rows = sa.select(TEMPLATES.c.template_id).where(TEMPLATES.c.template_id.in_(template_ids))
        with self._engine.connect() as connection:
            return set(connection.scalars(rows))

    def version(self, template_id: str, version: int) -> notify_pb2.Template:
        """One version, current or not, also of a deleted template. Raises NotFound."""
        column = TEMPLATE_VERSIONS.c
        row = sa.select(TEMPLATE_VERSIONS).where(column.template_id == template_id, column.version == version)
        with self._engine.connect() as connection:
            stored = connection.execute(row).mappings().one_or_none()
        if stored is None:
            raise template_not_found(template_id)
        return notify_pb2.Template(**stored)

    def page(self, size: int, after: Sequence[Any] = ()) -> list[notify_pb2.Template]:
        """At most `size`, by id; `after` is the id of the one before, if any."""
        rows = _CURRENT.where(TEMPLATES.c.template_id > after[0]) if after else _CURRENT
        with self._engine.connect() as connection:
            found = connection.execute(rows.order_by(TEMPLATES.c.template_id).limit(size))
            return [_template(row) for row in found.mappings()]

    def delete(self, template_id: str) -> None:
        """Raises NotFound; FailedPrecondition (TEMPLATE_IN_USE) while a subscription names it."""
        try:
            with self._engine.begin() as connection:
                gone = connection.execute(sa.delete(TEMPLATES).where(TEMPLATES.c.template_id == template_id))
        except sa.exc.IntegrityError:
            raise self._in_use(template_id) from None
        if not gone.rowcount:
            raise template_not_found(template_id)

    def _in_use(self, template_id: str) -> FailedPrecondition:
        rows = sa.select(SUBSCRIPTIONS.c.subscription_id).where(SUBSCRIPTIONS.c.template_id == template_id).limit(20)
        with self._engine.connect() as connection:
            names = ",".join(sorted(connection.scalars(rows)))
        return FailedPrecondition(
            f"template {template_id!r} is in use by the subscriptions {names}",
            reason="TEMPLATE_IN_USE",
            metadata={"template_id": template_id, "subscription_ids": names},
        )


def _require(connection: sa.Connection, template_id: str) -> notify_pb2.Template:
    row = connection.execute(_CURRENT.where(TEMPLATES.c.template_id == template_id)).mappings().one_or_none()
    if row is None:
        raise template_not_found(template_id)
    return _template(row)


def _last_version(connection: sa.Connection, template_id: str) -> int:
    versions = sa.select(sa.func.max(TEMPLATE_VERSIONS.c.version))
    return connection.scalar(versions.where(TEMPLATE_VERSIONS.c.template_id == template_id)) or 0


def _add_version(connection: sa.Connection, template: notify_pb2.Template, version: int) -> None:
    subject, text, html = _text(template)
    row = {"template_id": template.template_id, "version": version, "subject": subject, "text": text, "html": html}
    connection.execute(sa.insert(TEMPLATE_VERSIONS).values(row))


def _text(template: notify_pb2.Template) -> tuple[str, str, str]:
    return template.subject, template.text, template.html


def _template(row: sa.RowMapping) -> notify_pb2.Template:
    template = notify_pb2.Template(
        template_id=row["template_id"],
        version=row["version"],
        subject=row["subject"],
        text=row["text"],
        html=row["html"],
    )
    template.create_time.FromMicroseconds(row["create_time_us"])
    template.update_time.FromMicroseconds(row["update_time_us"])
    return template
