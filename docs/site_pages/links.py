"""Links to the API: from types in signatures, and from code in the pages that is a public name."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from site_pages.names import by_last_name, public_names

logger = logging.getLogger(__name__)

DISTINCT = re.compile(r"[A-Z]\w*[a-z]\w*")
"""Names that can be nothing else in a text: those of classes. `start` or `result` may be the word."""

SEVERAL = {"Key"}
"""Names of types that mean one thing in one module and another elsewhere: a key of random numbers, or of the cache."""


class LinkNames(SphinxPostTransform):
    """Code in a page that is the name of a public class, or begins with `autotune.`, links to the reference."""

    default_priority = 9  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        if "generated" in self.env.docname:
            return
        for literal in list(self.document.findall(nodes.literal)):
            if (path := path_of(literal.astext())) is None or isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            link = addnodes.pending_xref(
                "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=path, refdoc=self.env.docname,
                refexplicit=True, refwarn=False,
            )  # fmt: skip
            literal.replace_self(link)


def path_of(text: str) -> str | None:
    """The path of the public name that a piece of code is; None if it is anything else."""
    name = text.partition("(")[0]
    if name in public_names():
        return name
    return by_last_name().get(name) if DISTINCT.fullmatch(name) else None


def resolve(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, inner: nodes.TextElement) -> Any:
    """A type in a signature by its last name: signatures show it as the source writes it."""
    wanted = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    if wanted in public_names():
        logger.warning("the reference does not show %s, to which this page links", wanted, location=node)
    name = wanted.rpartition(".")[2]
    target = by_last_name().get(name)
    if target is None or name in SEVERAL:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, inner)


def connect(app: Sphinx) -> None:
    app.add_post_transform(LinkNames)
    app.connect("missing-reference", resolve)
