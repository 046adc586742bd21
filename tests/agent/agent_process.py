"""An agent as a process of its own, for tests that kill it: settings as JSON in the first argument."""

from __future__ import annotations

import sys

import msgspec
import uvloop

from muster.agent.main import serve
from muster.agent.settings import AgentSettings
from muster.mesh.environment import conceal

if __name__ == "__main__":
    conceal()
    uvloop.run(serve(msgspec.json.decode(sys.argv[1], type=AgentSettings, dec_hook=lambda kind, value: kind(value))))
