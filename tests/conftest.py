"""What every test may ask for."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.kit.servers", "tests.kit.meshes", "tests.kit.leaks"]

# Other examples at each run: half as many find as much over two runs, and the suite stays under five minutes.
settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")
