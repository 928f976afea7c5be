#!/usr/bin/python3
"""Tests of the documents: generated parts, links, code, and form.

  pages_test.py TABLES
"""

import pathlib
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import pages
from pages import ROOT

TABLES = None


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def names_of(block):
    """The names in the first cells of a table."""
    return re.findall(r"^\| `(\w+)`", block, flags=re.MULTILINE)


def unindented(text):
    return "\n".join(line.strip() for line in text.strip().split("\n"))


class ToolTest(unittest.TestCase):
    """What the other tests rely on."""

    def test_replaces_a_block_alone(self):
        page = "a\n<!-- begin x: y -->\nold\n<!-- end x -->\nb\n"
        self.assertEqual(
            pages.with_blocks(page, ["x"], {"x": "new \\1"}),
            "a\n<!-- begin x: y -->\n\nnew \\1\n\n<!-- end x -->\nb\n",
        )
        with self.assertRaisesRegex(ValueError, "named z, found 0"):
            pages.with_blocks(page, ["z"], {"z": ""})

    def test_finds_dead_links_and_anchors(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "b.md").write_text("# One `two`, three\n## Same\n## Same\n")
            (root / "a.md").write_text(
                "[1](b.md) [2](b.md#one-two-three) [3](b.md#same-1) [4](#here)\n"
                "# Here\n[5](https://a.b/c) `[6](gone.md)`\n```\n[7](gone.md)\n```\n"
                "    [8](gone.md)\n"
                "[9](gone.md) ![10](gone.png) [11](b.md#same-2) [12](#there)\n"
            )
            self.assertEqual(
                pages.dead_links(root, "a.md"),
                ["gone.md", "gone.png", "b.md#same-2", "#there"],
            )


class GeneratedTest(unittest.TestCase):
    def test_pages_are_those_of_the_code(self):
        blocks = pages.blocks_of(TABLES)
        self.assertEqual(
            set(blocks), {name for names in pages.PAGES.values() for name in names}
        )
        for path, names in pages.PAGES.items():
            page = text_of(path)
            self.assertEqual(
                pages.with_blocks(page, names, blocks), page, "run tools/docs.sh"
            )

    def test_man_page_is_that_of_the_code(self):
        self.assertEqual(
            text_of(pages.MAN_PAGE), pages.man_page_of(TABLES), "run tools/docs.sh"
        )

    def test_operations_explains_every_number_and_reason(self):
        blocks = pages.blocks_of(TABLES)
        operations = text_of("docs/operations.md")
        for heading, block, count_min in (
            ("## The numbers", "numbers", 40),
            ("### Drops", "drop-reasons", 20),
            ("### Ends of sessions", "end-reasons", 10),
        ):
            names = names_of(blocks[block])
            self.assertGreaterEqual(len(names), count_min)
            section = re.split(r"^#+ ", operations.split(f"\n{heading}\n")[1],
                               flags=re.MULTILINE)[0]
            rows = [line.split(" | ")[0] for line in section.splitlines()
                    if line.startswith("| `")]
            for name in names:
                self.assertTrue(
                    any(f"`{name}`" in row for row in rows), f"{heading}: no {name}"
                )


class LinksTest(unittest.TestCase):
    def test_no_link_is_dead(self):
        paths = pages.markdown_files()
        self.assertGreater(len(paths), 20)
        dead = {
            str(path): links for path in paths if (links := pages.dead_links(ROOT, path))
        }
        self.assertEqual(dead, {})

    def test_the_index_leads_to_every_page(self):
        linked = set(pages.links_of(text_of("docs/index.md")))
        for path in (ROOT / "docs").glob("*.md"):
            if path.name != "index.md":
                self.assertIn(path.name, linked)

    def test_paths_named_in_code_spans_exist(self):
        """`docs/x.md` and `tools/x.sh` are links in all but form."""
        for path in pages.markdown_files():
            for name in re.findall(r"`(?:\./)?((?:docs|tools|udpgate|cli|testing|deploy"
                                   r"|examples)/[\w./-]+\.\w+)`", text_of(path)):
                self.assertTrue((ROOT / name).exists(), f"{path}: {name}")


class InstallTest(unittest.TestCase):
    def test_links_to_what_is_not_installed_become_text(self):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "source"
            target = pathlib.Path(folder) / "target"
            (source / "docs").mkdir(parents=True)
            (source / "README.md").write_text(
                "[a](docs/a.md#one) and [`code`](cli/main.cc).\n"
            )
            (source / "docs/a.md").write_text("# One\n[b](../README.md)\n")
            (source / "docs/a.cc").write_text("")
            pages.install(source, target)
            self.assertEqual(
                [str(path) for path in pages.markdown_files(target)],
                ["README.md", "docs/a.md"],
            )
            self.assertEqual(
                (target / "README.md").read_text(), "[a](docs/a.md#one) and `code`.\n"
            )
            self.assertFalse((target / "docs/a.cc").exists())

    def test_the_documents_of_the_project(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            pages.install(ROOT, root)
            paths = pages.markdown_files(root)
            self.assertGreater(len(paths), 18)
            for path in paths:
                self.assertEqual(pages.dead_links(root, path), [], path)
            self.assertIn("docs/index.md", (root / "README.md").read_text())


class CodeTest(unittest.TestCase):
    def test_code_is_part_of_the_files_that_it_names(self):
        count = 0
        for path in pages.markdown_files():
            for block in re.findall(
                r"^```(?:cpp|starlark)\n(.*?)^```$", text_of(path),
                flags=re.DOTALL | re.MULTILINE,
            ):
                match = re.match(r"(?://|#) (\S+)\n", block)
                self.assertTrue(match, f"{path}: a block should name its file")
                self.assertIn(
                    unindented(block[match.end() :]), unindented(text_of(match[1]))
                )
                count += 1
        self.assertEqual(count, 3)


class FiguresTest(unittest.TestCase):
    def test_readme_has_the_figures_of_the_reports(self):
        report = text_of("docs/benchmarks.md")

        def found(pattern):
            match = re.search(pattern, report, flags=re.DOTALL)
            self.assertTrue(match, pattern)
            return match.groups()

        cpu, nginx, goref = found(
            r"64 clients, window 8.*?\|  \| udpgate \| ([\d,]+) [^|]*\| \W*([\d.]+)[^|]*"
            r"\| \W*([\d.]+)"
        )
        sent, lost = found(
            r"live datagrams sent +[\d,]+ +([\d,]+)\nlost +[\d,]+ +([\d,]+)\n"
        )
        (cost,) = found(r"18,000 sessions: CPU / that with 500 = ([\d.]+)")
        (memory,) = found(r"18,000 sessions: resident bytes of each = ([\d,]*\d)")
        theirs, ours = found(
            r"50,000 pairs/s, 500 clients.*?\nnginx +[\d.]+ +\+([\d.]+) .*?"
            r"\nfastpath +[\d.]+ +\+?(-?[\d.]+) "
        )
        (ratio,) = found(r"saturation: replies/s / routing's = ([\d.]+)")
        readme = " ".join(text_of("README.md").split())
        for phrase in (
            f"{int(cpu.replace(',', '')) / 1000:.1f} \N{MICRO SIGN}s for each datagram",
            f"{nginx} times nginx and {goref} times a comparable gateway in Go",
            f"lost {lost} of {sent} datagrams",
            f"take {memory} bytes of memory each",
            f"costs {cost} times what it costs among 500",
            f"{ours} cores beyond plain routing; nginx needs {theirs}",
            f"{ratio} times as many datagrams as routing",
        ):
            self.assertTrue(phrase in readme, f"README.md lacks: {phrase}")


class FormTest(unittest.TestCase):
    def test_readme_is_short(self):
        self.assertLessEqual(len(text_of("README.md").splitlines()), 150)

    def test_each_page_begins_with_whom_it_serves(self):
        for path in (ROOT / "docs").glob("*.md"):
            lines = path.read_text(encoding="utf-8").splitlines()
            self.assertRegex(lines[0], "^# ", path.name)
            self.assertRegex(lines[2], r"^For ", path.name)


if __name__ == "__main__":
    TABLES = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
