"""What topics builds, it parses; what it does not build, it refuses."""

from __future__ import annotations

import pytest

from edgeagg import topics
from edgeagg.errors import FormatError


def test_topics_are_written_as_the_brokers_rules_expect_them() -> None:
    assert topics.batch("qp-0001") == "edgeagg/v1/qp-0001/batch"
    assert topics.hello("qp-0001") == "edgeagg/v1/qp-0001/hello"
    assert topics.receipt("qp-0001") == "edgeagg/v1/qp-0001/receipt"
    assert topics.BATCHES == "edgeagg/v1/+/batch"
    assert topics.HELLOS == "edgeagg/v1/+/hello"


@pytest.mark.parametrize("leaf", ["batch", "hello", "receipt"])
def test_a_topic_names_its_gateway_and_its_leaf(leaf: str) -> None:
    build = {"batch": topics.batch, "hello": topics.hello, "receipt": topics.receipt}[leaf]
    assert topics.parse(build("qp-0001")) == ("qp-0001", leaf)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "edgeagg/v1/qp-0001",
        "edgeagg/v1/qp-0001/batch/more",
        "edgeagg/v2/qp-0001/batch",
        "/edgeagg/v1/qp-0001",
        "EDGEAGG/v1/qp-0001/batch",
        "edgeagg/v1//batch",
        "edgeagg/v1/+/batch",
        "edgeagg/v1/QP 1/batch",
        "edgeagg/v1/qp-0001\0/batch",
    ],
)
def test_any_other_topic_is_refused(topic: str) -> None:
    with pytest.raises(FormatError):
        topics.parse(topic)
