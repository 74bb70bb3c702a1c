"""XML that cannot harm: no document types, no entities, nothing from outside, no more elements than labels need."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

from handful.data.finding import Finding, OnFinding
from handful.pick import need

MOST_ELEMENTS, MOST_DEPTH = 1_000_000, 50


class _Bounded(TreeBuilder):
    """Refuses trees that no annotation needs, before they fill the memory."""

    depth = count = 0

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def start(self, tag: Any, attrs: Any, /) -> Element:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > MOST_DEPTH or self.count > self.most:
            raise ValueError(f"more than {self.most} elements, or {MOST_DEPTH} inside one another")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def xml_tree(data: bytes, tag: str, on_finding: OnFinding, *, file: str, most: int = MOST_ELEMENTS) -> Element | None:
    """The root of an XML file's bytes if it is called `tag`; None after telling why it cannot be used."""
    safe = need("defusedxml.ElementTree", "data")
    forbidden = need("defusedxml.common", "data").DefusedXmlException
    parser = safe.DefusedXMLParser(target=_Bounded(most), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(data)
        root = parser.close()
    except forbidden as error:
        detail = f"has a document type or entities ({error})"
        on_finding(Finding("unsafe_xml", file, type(error).__name__, detail=detail))
        return None
    except Exception as error:  # expat raises SyntaxError, ValueError, LookupError, UnicodeError and more
        why = str(error)[:200]
        on_finding(Finding("unreadable_labels", file, why, detail=f"is not readable XML ({why})"))
        return None
    if not isinstance(root, Element) or root.tag != tag:
        got = str(getattr(root, "tag", None))[:60]
        on_finding(Finding("unreadable_labels", file, got, detail=f"holds <{got}>; wanted <{tag}>"))
        return None
    return root
