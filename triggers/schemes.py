"""Signature schemes: a table of senders, from which `signature: NAME` selects, and schemes from a trigger's fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How a sender signs deliveries with an HMAC."""

    header: str = ""
    """The header with the signature, or with several, separated by commas, semicolons or spaces."""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = "sha256="
    """Optional text before a signature."""
    timestamp_header: str = ""
    """The header with the signed time, unless it is in `header`."""
    timestamp_prefix: str = ""
    """The text before the signed time in `header`: `t=`."""
    signed: str = "{body}"
    """The signed text."""
    signed_with_time: str = "{time}.{body}"
    """The signed text if a trigger sets the place of a time, but not `signed`."""

    @property
    def is_timed(self) -> bool:
        """Returns whether a time is signed, so that replays are detected."""
        return "{time}" in self.signed


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        # https://docs.slack.dev/authentication/verifying-requests-from-slack
        "slack": Scheme(
            header="X-Slack-Signature",
            prefix="v0=",
            timestamp_header="X-Slack-Request-Timestamp",
            signed="v0:{time}:{body}",
        ),
        # https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events
        "zoom": Scheme(
            header="x-zm-signature",
            prefix="v0=",
            timestamp_header="x-zm-request-timestamp",
            signed="v0:{time}:{body}",
        ),
        # https://docs.stripe.com/webhooks/signature
        "stripe": Scheme(header="Stripe-Signature", prefix="v1=", timestamp_prefix="t=", signed="{time}.{body}"),
        "calendly": Scheme(
            header="Calendly-Webhook-Signature", prefix="v1=", timestamp_prefix="t=", signed="{time}.{body}"
        ),
        # https://developer.paddle.com/webhooks/signature-verification
        "paddle": Scheme(header="Paddle-Signature", prefix="h1=", timestamp_prefix="ts=", signed="{time}:{body}"),
        # https://buildkite.com/docs/apis/webhooks/pipelines#webhook-signature
        "buildkite": Scheme(
            header="X-Buildkite-Signature",
            prefix="signature=",
            timestamp_prefix="timestamp=",
            signed="{time}.{body}",
        ),
        # https://developer.zendesk.com/documentation/webhooks/verifying
        "zendesk": Scheme(
            header="X-Zendesk-Webhook-Signature",
            encoding="base64",
            prefix="",
            timestamp_header="X-Zendesk-Webhook-Signature-Timestamp",
            signed="{time}{body}",
        ),
        # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries; Gitea and Forgejo send it too
        "github": Scheme(header="X-Hub-Signature-256"),
        "gitea": Scheme(header="X-Gitea-Signature"),
        "forgejo": Scheme(header="X-Forgejo-Signature"),
        "gogs": Scheme(header="X-Gogs-Signature"),
        # https://grafana.com/docs/grafana/latest/alerting/configure-notifications (webhook, HMAC signature)
        "grafana": Scheme(header="X-Grafana-Alerting-Signature", prefix="", signed_with_time="{time}:{body}"),
        # https://developer.pagerduty.com/docs/webhooks-signatures: one for each of its secrets
        "pagerduty": Scheme(header="X-PagerDuty-Signature", prefix="v1="),
        # https://circleci.com/docs/guides/integration/webhooks
        "circleci": Scheme(header="circleci-signature", prefix="v1="),
        # https://docs.sentry.io/organization/integrations/integration-platform/webhooks
        "sentry": Scheme(header="Sentry-Hook-Signature", prefix=""),
        "linear": Scheme(header="Linear-Signature", prefix=""),
        "dropbox": Scheme(header="X-Dropbox-Signature", prefix=""),
        "launchdarkly": Scheme(header="X-LD-Signature", prefix=""),
        # https://shopify.dev/docs/apps/build/webhooks/subscribe/https
        "shopify": Scheme(header="X-Shopify-Hmac-Sha256", encoding="base64", prefix=""),
        "heroku": Scheme(header="Heroku-Webhook-Hmac-SHA256", encoding="base64", prefix=""),
        "typeform": Scheme(header="Typeform-Signature", encoding="base64"),
        # https://developer.hashicorp.com/terraform/cloud-docs/workspaces/settings/notifications
        "terraform": Scheme(header="X-TFE-Notification-Signature", algorithm="sha512", prefix=""),
        # https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks
        "bitbucket": Scheme(header="X-Hub-Signature"),
        # SHA-1: nobody has forged an HMAC with it, but it is accepted only if a trigger sets it.
        "vercel": Scheme(header="x-vercel-signature", algorithm="sha1", prefix=""),
        "intercom": Scheme(header="X-Hub-Signature", algorithm="sha1", prefix="sha1="),
    }
)
"""Schemes by sender; without a name, the first scheme whose header is present is used."""

_NAMED_ONLY: Final = frozenset({"zendesk", "vercel", "intercom", "bitbucket"})
"""Used only by name: SHA-1, headers of several senders, and times that `_LOOKS_TIMED` does not match."""

PLAIN: Final = ("X-Hub-Signature-256", "X-Signature-256", "X-Signature", "X-Webhook-Signature", "X-Hub-Signature")
"""Common headers with an HMAC of the body; the last is GitHub's SHA-1, and the only one of some senders."""

_DETECTED: Final = MappingProxyType(
    {scheme.header.lower(): scheme for name, scheme in SCHEMES.items() if name not in _NAMED_ONLY}
    | {header.lower(): Scheme(header=header) for header in PLAIN[1:]}
)

_LOOKS_TIMED: Final = re.compile(rb"(v\d+:)?\d{9,19}[.:]")
"""The start of a signed text with a time.  See `is_ambiguous`."""


def detected(headers: Mapping[str, Any]) -> Scheme | None:
    """Returns the scheme of a delivery by its headers, for a trigger without a scheme."""
    return next((scheme for header, scheme in _DETECTED.items() if header in headers), None)


def plain_header(headers: Mapping[str, Any], algorithm: Algorithm) -> str:
    """Returns the header of the signature for a trigger that does not set it."""
    likely = PLAIN[::-1] if algorithm == "sha1" else PLAIN
    return next((header for header in likely if header.lower() in headers), likely[0])


def is_ambiguous(scheme: Scheme, body: bytes) -> bool:
    """Returns whether a signature of this body can come from another scheme, for a shorter body and a time.

    Otherwise, an observer of `Stripe-Signature: t=T,v1=H(T.B)` could send `T.B` as the body with
    `X-Signature: H(T.B)` at any later time.
    """
    return not scheme.is_timed and _LOOKS_TIMED.match(body) is not None
