"""What a trigger's manifest reads of its event."""

from __future__ import annotations

import pytest

from muster.blueprints.event_fields import headers_read
from muster.blueprints.objects.trigger import Trigger, TriggerTarget


def trigger(when: str = "true", text: str = "") -> Trigger:
    """One that says this."""
    return Trigger(
        name="any", provider="webhook", when=when, blueprint="any", target=TriggerTarget(on="a"), inputs={"v": [text]}
    )


@pytest.mark.parametrize(
    ("when", "text", "names"),
    [
        ('event.headers["x-env"] == "prod"', "", ("x-env",)),
        ("event['headers']['x-env'] == 'prod'", "", ("x-env",)),
        ('"x-env" in event.headers && event.headers[?"x-b"].hasValue()', "", ("x-b", "x-env")),
        ("true", "{{ event.headers['x-env'] | default('') }}", ("x-env",)),
        ("true", '{{ event.headers.get("x-env") }}', ("x-env",)),
        ("event.body.headers.x == 1", "event.headers", ()),
    ],
)
def test_headers_that_it_names_are_known(when: str, text: str, names: tuple[str, ...]) -> None:
    assert headers_read(trigger(when, text)) == names
