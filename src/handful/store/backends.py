"""Which database an address is of."""

from __future__ import annotations

from sqlalchemy.engine import URL

from handful.store.backend import Backend, Other, Postgres, Sqlite
from handful.store.mysql import Mysql

KINDS: dict[str, type[Backend]] = {"sqlite": Sqlite, "postgresql": Postgres, "mysql": Mysql, "mariadb": Mysql}


def kind_of(url: URL) -> type[Backend]:
    """The class for an address."""
    return KINDS.get(url.get_backend_name(), Other)
