"""What an item table's columns mean: guessed from their names, or told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmrec_teach.errors import DataError, OptionError

NOUNS = ("product", "movie", "film", "book")
# Role -> the column names it goes by, most telling first; case, '_', '-', '.' and blanks do not count.
GUESSES: Mapping[str, Sequence[str]] = {
    "user": ("userid", "user", "uid", "reviewerid", "customerid", "customer", "username", "useridx", "userindex"),
    "item": (
        "itemid",
        "item",
        "iid",
        "parentasin",
        "asin",
        "productid",
        "movieid",
        "bookid",
        "videoid",
        "articleid",
        "sku",
        *NOUNS,
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "datetime", "date"),
    "title": ("title", "name", "itemname", "productname", "movietitle", "headline"),
    "category": ("category", "maincategory", "genre", "genres", "categories", "class", "kind", "type", "tags"),
    "text": ("plot", "caption", "description", "text", "overview", "summary", "abstract", "body"),
    "picture": (
        "picture",
        "image",
        "poster",
        "photo",
        "cover",
        "picturepath",
        "imagepath",
        "posterpath",
        "img",
        "thumbnail",
        "filename",
        "file",
    ),
}


def roles(columns: Iterable[str], told: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return role -> column for the roles that ``columns`` can play.

    Args:
        columns: the column names of a file.
        told: role -> column, overriding the guesses; columns that this file lacks are passed over.

    Raises:
        OptionError: ``told`` names an unknown role.
    """
    columns = list(columns)
    told = dict(told or {})
    for role in told:
        if role not in GUESSES:
            raise OptionError("unknown role of a column", where="columns", found=repr(role), expected=", ".join(GUESSES))
    plain: dict[str, str] = {}
    for column in columns:
        plain.setdefault("".join(c for c in column.lower() if c not in "_-. "), column)
    found = {}
    for role, names in GUESSES.items():
        if role in told:
            if told[role] in columns:
                found[role] = told[role]
        elif guess := next((plain[n] for n in names if n in plain), None):
            found[role] = guess
    # In a table of items "id" is the item's, and "film" rather its title; beside a user it is the row's.
    if "id" in plain and "user" not in found and "item" not in told and found.get("item", "film").lower() in NOUNS:
        found["item"] = plain["id"]
    return found


def first_category(values: np.ndarray, column: str) -> np.ndarray:
    """Return the first category of each entry of ``values`` (n,) of str.

    Entries are cut at '|', ';', ',' or ' > ', whichever of these occurs anywhere in the column. If none does and the column's
    name is a plural ("genres"), at blanks: the names of categories then are single words.
    """
    for separator in ("|", ";", ",", " > "):
        if any(separator in v for v in values):
            return np.array([v.split(separator)[0].strip() for v in values], dtype=object)
    if column.lower().endswith("s") and column.lower() != "class" and not any(" & " in v for v in values):
        return np.array([(v.split() or [""])[0] for v in values], dtype=object)
    return np.array([v.strip() for v in values], dtype=object)


def require_roles(found: Mapping[str, str], needed: Sequence[str], where: str, columns: Sequence[str]) -> None:
    """Raise a DataError unless every role in ``needed`` is in ``found``."""
    for role in needed:
        if role not in found:
            raise DataError(
                f"no column tells the {role}",
                where=where,
                found="columns " + ", ".join(columns)[:100],
                expected=f"a column named like {', '.join(GUESSES[role][:3])}",
                fix=f'Say which one it is: columns={{"{role}": NAME}} (--column {role}=NAME)',
            )
