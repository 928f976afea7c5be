#!/usr/bin/python3
"""Writes the generated parts of the documents, and copies documents to install.

  pages.py --update TABLES   tools/docs.sh calls it; TABLES is //docs:tables
  pages.py --install FOLDER  copies what a package holds from the working
                             directory, and unlinks what it does not hold

A generated part stands between two comments, each on a line of its own:

    <!-- begin NAME: any words -->
    <!-- end NAME -->
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Which page holds which of the blocks that //docs:tables prints.
PAGES = {
    "docs/settings.md": ("settings",),
    "docs/metrics.md": (
        "numbers",
        "drop-reasons",
        "end-reasons",
        "reopen-reasons",
        "nethernet-metrics",
        "join-results",
        "store-metrics",
    ),
}

MAN_PAGE = "docs/udp-gate.8"

# What a package holds, without what only contributors need.
INSTALLED = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/*.md",
    "docs/*.png",
    "docs/*.svg",
    "udpgate/*/README.md",
)

# Folders that hold no document of the project.
NOT_OURS = {".git", ".fuzz", "node_modules", "__pycache__"}


def blocks_of(tables):
    """What //docs:tables prints, by name."""
    output = subprocess.run([tables], check=True, capture_output=True, text=True)
    parts = re.split(r"^=== (\S+)\n", output.stdout, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2])}


def man_page_of(tables):
    output = subprocess.run(
        [tables, "--man"], check=True, capture_output=True, text=True
    )
    return output.stdout


def with_blocks(page, names, blocks):
    """The text of a page with the blocks of these names as they are now."""
    for name in names:
        place = re.compile(
            rf"(<!-- begin {name}: [^\n]*-->\n).*?(<!-- end {name} -->\n)", re.DOTALL
        )
        content = blocks[name]
        page, count = place.subn(
            lambda match, content=content: f"{match[1]}\n{content}\n\n{match[2]}", page
        )
        if count != 1:
            raise ValueError(f"expected one place named {name}, found {count}")
    return page


def markdown_files(root=ROOT):
    """Paths of all documents of the repository, relative to it."""
    paths = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS and not name.startswith("bazel-")
        ]
        for name in files:
            if name.endswith(".md"):
                paths.append((pathlib.Path(folder) / name).relative_to(root))
    return sorted(paths)


def prose_of(text):
    """Markdown without its code blocks and code spans."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    return re.sub(r"`[^`\n]*`", "``", "\n".join(lines))


def anchors_of(text):
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    anchors = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE):
        heading = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        anchor, count = slug, 0
        while anchor in anchors:
            count += 1
            anchor = f"{slug}-{count}"
        anchors.add(anchor)
    return anchors


def links_of(text):
    """The targets of the links and pictures of a page."""
    return re.findall(r"\]\(\s*<?([^)\s>]+)", prose_of(text))


def dead_links(root, path):
    """What the links of a document that lead nowhere name."""
    text = (root / path).read_text(encoding="utf-8")
    dead = []
    for link in links_of(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue  # another site: not looked at
        name, _, anchor = link.partition("#")
        target = (root / path).parent / name if name else root / path
        if not target.exists():
            dead.append(link)
        elif anchor and target.suffix == ".md":
            if anchor not in anchors_of(target.read_text(encoding="utf-8")):
                dead.append(link)
    return dead


def without_dead_links(folder, path):
    """The text of a document in which links that lead nowhere are plain text."""
    text = (folder / path).read_text(encoding="utf-8")
    for link in set(dead_links(folder, path)):
        text = re.sub(rf"\[([^][]*)\]\({re.escape(link)}\)", r"\1", text)
    return text


def install(source, folder):
    """Copies the documents of a package; no link of the copies is dead."""
    paths = [path for name in INSTALLED for path in sorted(source.glob(name))]
    for path in paths:
        copy = folder / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for path in markdown_files(folder):
        text = without_dead_links(folder, path)
        (folder / path).write_text(text, encoding="utf-8")
        if dead := dead_links(folder, path):
            sys.exit(f"{path}: dead links: {', '.join(dead)}")


def update(tables):
    blocks = blocks_of(tables)
    for name, names in PAGES.items():
        path = ROOT / name
        path.write_text(with_blocks(path.read_text(), names, blocks))
    (ROOT / MAN_PAGE).write_text(man_page_of(tables))


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--update", "--install"):
        sys.exit(__doc__)
    if sys.argv[1] == "--update":
        update(sys.argv[2])
    else:
        install(pathlib.Path.cwd(), pathlib.Path(sys.argv[2]))


if __name__ == "__main__":
    main()
