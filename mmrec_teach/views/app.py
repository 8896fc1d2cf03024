"""The what-if panel as a page of its own: what the one cell behind `mmrec-teach whatif` does.

The page's address may name a setting (``?setting=…``, see :meth:`~mmrec_teach.views.setting.Setting.link`); it then opens that
one. Voilà hands the address's query to the kernel as ``QUERY_STRING``.
"""

from __future__ import annotations

import html
import os
from typing import Any
from urllib.parse import unquote

from mmrec_teach.data import Dataset, load
from mmrec_teach.errors import MMRecTeachError, OptionError
from mmrec_teach.models import model_class
from mmrec_teach.views.setting import BAZAARS, Setting

HEIGHT = 520  # of a map, in pixels: there is more room than in a notebook


def linked_setting(query: str) -> str:
    """Return the setting's text in an address's query, or "" where there is none.

    Args:
        query: such as ``"setting=lightgcn?l2=0.01%26seed=3"``. A setting typed by hand, with its ``&`` as they are, is taken to
            the query's end.
    """
    parts = query.split("&")
    first = next((n for n, part in enumerate(parts) if part.startswith("setting=")), len(parts))
    # Voilà's own words may stand behind it
    mine = [part for part in parts[first:] if not part.startswith(("token=", "theme=", "template="))]
    return unquote("&".join(mine).removeprefix("setting=")).strip()


def choose(model: str | None, source: str | None, text: str | None) -> dict[str, Any]:
    """Return what :func:`~mmrec_teach.views.whatif` is to be called with.

    Args:
        model: a registered model, or None for the setting's, or LightGCN.
        source: what :func:`~mmrec_teach.data.load` opens, or None for the setting's data set, or the bazaar.
        text: a setting, or None.

    Raises:
        DataError: data that is not there or damaged, or not the setting's.
        OptionError: an unknown model; a setting that is none, or is of another model.
    """
    if not text:
        model_class(model or "lightgcn")
        return {"model": model or "lightgcn", "data": load(source or "bazaar")}
    setting = Setting.from_text(text)
    if model is not None and model != setting.model:
        raise OptionError(
            "two models", where="setting", found=setting.model, expected=f"{model}, as asked for, or no model beside it"
        )
    data: Dataset = setting.load() if source is None else load(source)
    setting.check(data)
    return {"model": setting.model, "data": data, "setting": setting}


def page(model: str | None = None, source: str | None = None, text: str | None = None) -> Any:
    """Return the panel, or a sentence that says what is wrong; the setting in the page's address comes before ``text``.

    Args:
        model, source, text: as for :func:`choose`.
    """
    from mmrec_teach.views import whatif

    try:
        linked = linked_setting(os.environ.get("QUERY_STRING", ""))
        if linked:
            # a link may be of the data that was opened here, or of an embedded set
            named = Setting.from_text(linked).data
            model, text, source = None, linked, None if named in BAZAARS and named != source else source
        return whatif(**choose(model, source, text), height=HEIGHT)
    except MMRecTeachError as error:
        from IPython.display import HTML

        return HTML(f'<p role="alert" class="mmrec-refused">{html.escape(str(error))}</p>')


__all__ = ["choose", "linked_setting", "page"]
