"""What `--help` shows at its end: examples that can be copied, for every command."""

from __future__ import annotations

from typing import Final

_EXIT = """
Exit codes:
  0 done, 1 the order failed or was cancelled, 2 bad usage or an invalid
  manifest, 3 refused by the mesh, 4 cannot reach it, 124 --timeout passed,
  130 interrupted."""

_EXAMPLES: Final = {
    "": """
  muster up                                  the whole mesh, on this machine
  muster get machines                        who is there
  muster run host-report --on web01 --follow
  muster logs 3f6a                           any unique start of an id will do"""
    "\n"
    + _EXIT
    + """

Environment:
  MUSTER_API, MUSTER_SERVER, MUSTER_TOKEN, MUSTER_DATA, MUSTER_CONTEXT,
  NO_COLOR; contexts are in $XDG_CONFIG_HOME/muster/config.toml.
  Shell completion: muster completion --help""",
    "up": """
  muster up
  muster up --data /var/lib/muster --http 0.0.0.0:8642 --element web01
  muster up --http 127.0.0.1:0 --nats 127.0.0.1:0     any free ports""",
    "server": """
  muster server --nats 0.0.0.0:4222 --data /var/lib/muster""",
    "broker": """
  muster broker --server nats://10.0.0.5:4222 --http 0.0.0.0:8642
  muster broker --server nats://a:4222,nats://b:4222,nats://c:4222""",
    "agent": """
  muster agent --server nats://10.0.0.5:4222 --element web01
  muster agent --element web01 --element web02     one daemon, two elements""",
    "triggers": """
  muster triggers --server nats://10.0.0.5:4222 --http 0.0.0.0:8643
  muster triggers --server nats://a:4222,nats://b:4222,nats://c:4222""",
    "demo": """
  muster demo""",
    "doctor": """
  muster doctor
  muster doctor --api http://10.0.0.5:8642 -o json""",
    "apply": """
  muster apply -f web01.yaml
  muster apply -f fleet/ -f blueprints/ --dry-run
  cat pool.yaml | muster apply -f -""",
    "get": """
  muster get machines
  muster get machine web01 -o yaml
  muster get machines --where 'element.labels.site == "ams"'""",
    "describe": """
  muster describe machine web01
  muster describe blueprint heartbeat
  muster describe trigger nightly
  muster describe order 3f6a""",
    "delete": """
  muster delete pool builders""",
    "run": """
  muster run heartbeat --on web01 --follow
  muster run heartbeat --pool web -i disk_limit=80 --wait --timeout 5m
  muster run patch --where 'element.labels.role == "web"' --all
  muster run patch --on web01 --inputs patch.yaml --dry-run""",
    "orders": """
  muster orders
  muster orders --state failed --since 1d
  muster orders --element web01 --blueprint heartbeat -o json""",
    "logs": """
  muster logs 3f6a
  muster logs 3f6a --follow --job disk""",
    "explain": """
  muster explain 3f6a""",
    "cancel": """
  muster cancel 3f6a""",
    "retry": """
  muster retry 3f6a""",
    "events": """
  muster events
  muster events --kind order.failed
  muster events -o json | jq .subject""",
    "fire": """
  muster fire nightly --follow
  muster fire rebuild-on-push --event push.json
  echo '{"ref": "refs/heads/main"}' | muster fire rebuild-on-push --event -""",
    "next": """
  muster next nightly
  muster next nightly -n 20 -o json""",
    "firings": """
  muster firings nightly
  muster get firing 3f6a
  muster describe firing 3f6a                its event and its orders""",
    "mode": """
  muster mode web01 workflow
  muster mode web01 work_order""",
    "drain": """
  muster drain web01                         finish what runs, take nothing new
  muster drain web01 --wait --timeout 10m    and return once nothing runs there""",
    "undrain": """
  muster undrain web01""",
    "completion": """
  muster completion --install                for the shell you are in
  muster completion bash > ~/.local/share/bash-completion/completions/muster
  muster completion zsh > ~/.zfunc/_muster
  muster completion fish > ~/.config/fish/completions/muster.fish""",
}

EXAMPLES: Final = {name: f"\nExamples:{text}\n" for name, text in _EXAMPLES.items()}
"""By command; the empty name is `muster` itself."""
