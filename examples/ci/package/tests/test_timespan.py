"""What timespan promises; the standard library's test runner is enough for it."""

import unittest

import timespan


class Timespan(unittest.TestCase):
    def test_units_add_up(self):
        self.assertEqual(timespan.seconds("1h30m"), 5400)
        self.assertEqual(timespan.seconds("2d"), 172800)

    def test_there_and_back(self):
        for written in ("0s", "59s", "1m", "1h1s", "3d4h5m6s"):
            self.assertEqual(timespan.text(timespan.seconds(written)), written)

    def test_nonsense_is_refused(self):
        for written in ("", "1", "h", "1h 30m", "1w", "-1s"):
            with self.assertRaises(ValueError):
                timespan.seconds(written)


if __name__ == "__main__":
    unittest.main()
