"""HTML documents from Jinja templates: each is complete in one file, and every value in it is escaped."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def document(template: str, package: str = __package__, **values: Any) -> str:
    """Render a template to a self-contained HTML document.

    Templates escape what `{{ … }}` inserts. They write data for a script as `{{ value | tojson }}`, which cannot close
    the script element, and inline a script or a style sheet of a package as `{{ asset("name.css", "package") }}`.

    template: name of a file in the `templates` folder of `package`, such as "adaqf_train.userstudy", or of this
    package; templates can extend "base.html". A value that a template uses and that is missing is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, __package__))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.globals["asset"] = asset
    environment.filters["columns"] = lambda rows: list(dict.fromkeys(column for row in rows for column in row))
    return environment.get_template(template).render(values)


def asset(name: str, package: str = __package__) -> Markup:
    """Read a script or a style sheet that is part of a package; it is inserted as it is."""
    return Markup(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
