"""Writes the API reference, docs/api/*.md, from signatures and docstrings: `python docs/make_reference.py`.

The source is read, not imported (griffe). One page per part of the package, and the names that `vitgan` itself exports on
the first, README.md. A test compares the pages with what this would write.
"""

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "api"
NOT_IN_THE_REFERENCE = ("cli", "__main__")
"""The command line has its own reference: `vitgan COMMAND --help`."""
WIDTH = 100

Documented = Any
"""A griffe object or alias: which attributes it has depends on what it documents."""


def main() -> None:
    """Writes all pages, and removes pages of parts that are gone."""
    pages = reference()
    PAGES.mkdir(exist_ok=True)
    for old in PAGES.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (PAGES / name).write_text(text, encoding="utf-8")
    print(f"{len(pages)} pages in {PAGES.relative_to(Path.cwd()) if PAGES.is_relative_to(Path.cwd()) else PAGES}")


def reference() -> dict[str, str]:
    """File name -> Markdown, for every page."""
    logging.getLogger("griffe").setLevel(logging.ERROR)  # it remarks on entries that stand for several parameters
    package = griffe.load("vitgan", search_paths=[ROOT / "src"], docstring_parser="google")
    assert isinstance(package, griffe.Module)
    parts = [module for module in package.modules.values() if module.name not in NOT_IN_THE_REFERENCE]
    parts = [part for part in sorted(parts, key=lambda part: part.name) if not part.name.startswith("_")]
    pages = {f"{part.name}.md": part_page(part) for part in parts}
    return {"README.md": first_page(package, parts), **pages}


def first_page(package: griffe.Module, parts: list[griffe.Module]) -> str:
    """What `import vitgan` offers in full, and a list of the other pages."""
    homes = ast_dictionary(package, "_HOMES")
    public = [package.modules_collection[homes[name]][name] for name in sorted(homes)]
    # Functions first: they are where a reader begins.
    public.sort(key=lambda item: (not item.is_function, item.name))
    lines = [
        "# API reference",
        "",
        "Made from the docstrings by `python docs/make_reference.py`; do not edit. What `import vitgan` offers:",
        "",
        *(f"- [`vitgan.{item.name}`](#{item.name.lower()}): {first_sentence(item)}" for item in public),
        "",
        "And, by part of the package:",
        "",
        *(f"- [`vitgan.{part.name}`]({part.name}.md): {first_sentence(part)}" for part in parts),
        "",
    ]
    for item in public:
        lines += describe(item, level=2)
    return finish(lines)


def part_page(part: griffe.Module) -> str:
    """All public modules of a part, a section each."""
    lines = [f"# vitgan.{part.name}", "", *docstring(part), "[All parts](README.md)", ""]
    modules = [module for module in walk(part) if any(True for _ in public_members(module))]
    if len(modules) > 1:
        lines += [
            f"- [`{module.path}`](#{module.path.replace('.', '').lower()}): {first_sentence(module)}"
            for module in modules
        ]
        lines.append("")
    for module in modules:
        if module is not part:
            lines += [f"## {module.path}", "", *docstring(module)]
        lines += [f"[Source](../../src/{module.path.replace('.', '/')}{source_ending(module)})", ""]
        for member in public_members(module):
            lines += describe(member, level=3)
    return finish(lines)


def walk(module: griffe.Module) -> Iterator[griffe.Module]:
    """The module and those in it, in order of their names."""
    yield module
    for name in sorted(module.modules):
        if not name.startswith("_"):
            yield from walk(module.modules[name])


def source_ending(module: griffe.Module) -> str:
    """ "/__init__.py" for a package, ".py" for a file."""
    return "/__init__.py" if module.is_init_module else ".py"


def public_members(module: griffe.Module) -> Iterator[Documented]:
    """Classes, functions and described constants that the module itself defines, in its own order."""
    for name, member in module.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if member.is_function or member.is_class or (member.is_attribute and member.docstring):
            yield member


def describe(item: Documented, level: int) -> list[str]:
    """One class, function or constant."""
    lines = [f"{'#' * level} {item.name}", "", *code(signature(item)), *docstring(item)]
    if not item.is_class:
        return lines
    lines += fields(item)
    constructor = item.members.get("__init__")
    if constructor is not None and constructor.docstring and not constructor.is_alias:
        lines += docstring(constructor)
    for name, method in item.members.items():
        if method.is_function and not name.startswith("_") and method.docstring:
            lines += [f"{'#' * (level + 1)} {item.name}.{name}", "", *code(signature(method))]
            lines += docstring(method)
    return lines


def fields(item: Documented) -> list[str]:
    """Annotated attributes of a configuration, with their defaults and the docstrings beneath them."""
    described = {
        entry.name
        for section in (item.docstring.parsed if item.docstring else [])
        if section.kind is griffe.DocstringSectionKind.attributes
        for entry in section.value
    }
    lines = []
    for name, attribute in item.members.items():
        shown = attribute.is_attribute and not name.startswith("_") and name not in described
        if not shown or not attribute.annotation or "class-attribute" not in attribute.labels:
            continue
        default = f" = `{one_line(attribute.value)}`" if attribute.value is not None else ""
        text = f": {one_line(attribute.docstring.value)}" if attribute.docstring else ""
        lines.append(f"- **{name}** (`{one_line(attribute.annotation)}`){default}{text}")
    return [*lines, ""] if lines else []


def signature(item: Documented) -> str:
    """As it stands in the source, on one line if that is short, else a parameter a line."""
    if item.is_attribute:
        annotation = f": {item.annotation}" if item.annotation else ""
        value = one_line(item.value)
        return f"{item.name}{annotation} = {value if len(value) <= WIDTH else '...'}"
    prefix = "class " if item.is_class else "def "
    function = item.members.get("__init__") if item.is_class else item
    if function is None or function.is_alias:
        bases = ", ".join(str(base) for base in item.bases)
        return f"{prefix}{item.name}({bases})" if bases else f"{prefix}{item.name}"
    kinds = griffe.ParameterKind
    parameters, star_seen = [], False
    for parameter in function.parameters:
        if parameter.name == "self":
            continue
        star = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(parameter.kind, "")
        if parameter.kind is kinds.keyword_only and not star_seen:
            parameters.append("*")
        star_seen = star_seen or star == "*" or parameter.kind is kinds.keyword_only
        annotation = f": {parameter.annotation}" if parameter.annotation else ""
        equals = " = " if annotation else "="
        default = f"{equals}{parameter.default}" if parameter.default is not None and not star else ""
        parameters.append(f"{star}{parameter.name}{annotation}{default}")
    returns = f" -> {function.returns}" if function.returns and not item.is_class else ""
    short = f"{prefix}{item.name}({', '.join(parameters)}){returns}"
    if len(short) <= WIDTH:
        return short
    return "\n".join([f"{prefix}{item.name}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"])


def code(text: str) -> list[str]:
    """A block of Python, its strings quoted as in the source (griffe quotes them the other way)."""
    return ["```python", re.sub(r"'([^'\"\\\n]*)'", r'"\1"', text), "```", ""]


def docstring(item: Documented) -> list[str]:
    """The docstring's sections as Markdown."""
    lines = []
    for section in item.docstring.parsed if item.docstring else []:
        kinds = griffe.DocstringSectionKind
        match section.kind:
            case kinds.text:
                lines += [section.value.strip(), ""]
            case kinds.parameters | kinds.attributes:
                title = "Args" if section.kind is kinds.parameters else "Attributes"
                entries = [f"- **{entry.name}**: {one_line(entry.description)}" for entry in section.value]
                lines += [f"**{title}**", "", *entries, ""]
            case kinds.returns | kinds.yields:
                title = "Returns" if section.kind is kinds.returns else "Yields"
                lines += [f"**{title}** {' '.join(one_line(entry.description) for entry in section.value)}", ""]
            case kinds.raises:
                entries = [f"`{entry.annotation}`: {one_line(entry.description)}" for entry in section.value]
                lines += [f"**Raises** {' '.join(entries)}", ""]
            case _:
                raise ValueError(f"{item.path}: a section of kind {section.kind.value} has no form yet")
    return lines


def first_sentence(item: Documented) -> str:
    """The docstring's first line, without a full stop."""
    text = item.docstring.value if item.docstring else ""
    return one_line(re.split(r"\n\s*\n|(?<=\w)(?<!et al)\.\s", text)[0]).rstrip(".")


def one_line(value: object) -> str:
    """Text on one line."""
    return " ".join(str(value).split())


def ast_dictionary(module: griffe.Module, name: str) -> dict[str, str]:
    """A dictionary of literals that a module assigns to a name."""
    return ast.literal_eval(str(module.attributes[name].value))


def finish(lines: list[str]) -> str:
    """The page with one empty line at most between paragraphs, and one line end at the end."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


if __name__ == "__main__":
    main()
