#!/usr/bin/python3
"""Tests of how programs.py judges and shows what it measured."""

import sys
import unittest

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import programs
from catalog import Iperf3, Quic, with_candidate


def row_of(direct, gateway, dropped=0, ratio_max=programs.RATIO_MAX):
    row = programs.Row("name", "A program", 100, direct, gateway, dropped, [])
    row.targets = programs.timed_verdicts(row, ratio_max)
    return row


class VerdictTest(unittest.TestCase):
    def test_ratio(self):
        self.assertTrue(row_of([1.0, 1.0, 5.0], [1.2, 0.1, 7.0]).is_met())
        self.assertFalse(row_of([1.0, 1.0, 5.0], [1.21, 0.1, 7.0]).is_met())

    def test_another_ratio(self):
        self.assertTrue(row_of([1.0], [3.0], ratio_max=3).is_met())
        self.assertFalse(row_of([1.0], [3.1], ratio_max=3).is_met())

    def test_short_times_may_differ_by_more(self):
        self.assertTrue(row_of([0.010], [0.040]).is_met())
        self.assertFalse(row_of([0.010], [0.041]).is_met())

    def test_one_failure_is_one_too_many(self):
        row = row_of([1.0, 1.0, 1.0], [1.0, None])
        self.assertFalse(row.is_met())
        self.assertEqual(row.cells()[3:5], ("fails", "-"))
        self.assertFalse(row_of([None], [1.0]).is_met())

    def test_one_reply_dropped_is_one_too_many(self):
        row = row_of([1.0], [1.0], dropped=1)
        self.assertEqual([is_met for _, is_met in row.targets], [False, True])

    def test_migration(self):
        quic = Quic("quic", 1, "1 B", migrates=True)
        self.assertTrue(quic.verdicts(5, 10)[0][1])
        self.assertFalse(quic.verdicts(5, 9)[0][1])
        self.assertEqual(Quic("quic", 1, "1 B").verdicts(5, 5), [])

    def test_iperf3_lost(self):
        sent = Iperf3.MEGABITS_PER_SECOND * Iperf3.SECONDS * 1e6 / 8 / Iperf3.SIZE
        self.assertEqual(Iperf3().lost_percent([sent / 4, sent / 4]), 50)
        self.assertEqual(Iperf3().lost_percent([sent, 1]), 0)


class ShownTest(unittest.TestCase):
    def test_cells(self):
        self.assertEqual(
            row_of([1.0, 2.0, 4.0], [3.0], 1234).cells(),
            ("A program", "100 ms", "2.000 s", "3.000 s", "1.50", "1,234"),
        )

    def test_rows_of_the_page(self):
        options = programs.argparse.Namespace(ratio_max=programs.RATIO_MAX, runs=5, set=[])
        here = {"cpu": "A CPU", "cores": 2, "kernel": "6.1", "load_before": 0.0}
        rows = [row_of([1.0], [1.0]), row_of([1.0], [None], 3)]
        text = programs.to_markdown(options, here, "udp-gate 1", rows)
        self.assertIn("| A program | 100 ms | 1.000 s | fails | - | 3 |\n", text)
        self.assertIn("Targets: 2 of 4 are met.", text.replace("\n", " "))
        self.assertIn("\n- name, RTT 100 ms: replies dropped = 3, at most 0\n", text)
        self.assertIn("1.2 times direct", text.replace("\n", " "))


class CandidateTest(unittest.TestCase):
    DESCRIPTION = {
        "type": "answer",
        "sdp": "v=0\r\na=candidate:1 1 udp 1 10.0.2.2 5 typ host\r\na=mid:0\r\n"
        "a=candidate:2 1 udp 1 127.0.0.1 5 typ host\r\na=x\r\n",
    }

    def test_one(self):
        candidate = "a=candidate:1 1 udp 2113937151 10.0.1.1 19132 typ host\r\n"
        self.assertEqual(
            with_candidate(self.DESCRIPTION, "10.0.1.1"),
            {"type": "answer", "sdp": f"v=0\r\n{candidate}a=mid:0\r\na=x\r\n"},
        )

    def test_none(self):
        self.assertEqual(
            with_candidate(self.DESCRIPTION, None)["sdp"], "v=0\r\na=mid:0\r\na=x\r\n"
        )


class CatalogTest(unittest.TestCase):
    def test_names_are_one_word_each(self):
        for name, program in programs.ALL.items():
            self.assertEqual(name, program.name)
            self.assertNotRegex(name, r"\s")
        self.assertEqual(len(programs.ALL), len(programs.catalog.TIMED) + 2)


if __name__ == "__main__":
    unittest.main()
