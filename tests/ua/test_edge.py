from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.ua.edge import Action, EdgeLimits, EdgePolicy, EdgeRequest, EdgeTrunk

INVITE = EdgeRequest("UDP", "192.0.2.7", 5060, "INVITE", b"INVITE sip:x SIP/2.0\r\n\r\n")
CARRIER = EdgeTrunk("carrier", (ip_network("192.0.2.0/24"),))


def policy(*trunks: EdgeTrunk, **limits) -> EdgePolicy:
    made = EdgePolicy(EdgeLimits(**limits))
    made.replace_trunks(trunks)
    return made


def judged(request: EdgeRequest, *trunks: EdgeTrunk, **limits):
    verdict = policy(*(trunks or (CARRIER,)), **limits).decide(request, 0.0)
    return verdict.action, verdict.reason, verdict.status


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "SUBSCRIBE", "ACK"])
def test_without_a_trunk_nothing_is_answered(method):
    assert policy().decide(replace(INVITE, method=method), 0.0).action is Action.DROPPED


@pytest.mark.parametrize("source", ["192.0.3.1", "2001:db8::1", "", "not an address", "192.0.2.1.5"])
def test_an_unknown_source_hears_nothing(source):
    request = replace(INVITE, source_address=source)
    assert judged(request) == (Action.DROPPED, "unknown_source", 0)


def test_a_trunk_passes_and_is_named():
    verdict = policy(CARRIER).decide(INVITE, 0.0)
    assert (verdict.action, verdict.trunk) == (Action.PASSED, "carrier")


def test_the_longest_prefix_wins():
    host = EdgeTrunk("pbx", (ip_network("192.0.2.7/32"),))
    assert policy(CARRIER, host).trunk_of("192.0.2.7") == "pbx"
    assert policy(host, CARRIER).trunk_of("192.0.2.8") == "carrier"


def test_ipv4_mapped_addresses_are_ipv4():
    assert policy(CARRIER).trunk_of("::ffff:192.0.2.7") == "carrier"


def test_ipv6_networks():
    trunk = EdgeTrunk("six", (ip_network("2001:db8::/32"),))
    assert policy(trunk).trunk_of("2001:db8:1::9") == "six"
    assert policy(trunk).trunk_of("2001:db9::9") is None


@pytest.mark.parametrize("method", ["REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "REGISTER", "X"])
def test_methods_that_are_refused(method):
    assert judged(replace(INVITE, method=method)) == (Action.ANSWERED, "method", 405)


def test_a_trunk_may_refer():
    trunk = replace(CARRIER, extra_methods=frozenset({"REFER"}))
    assert judged(replace(INVITE, method="REFER"), trunk)[0] is Action.PASSED


def test_replaces():
    request = replace(INVITE, replaces=True)
    assert judged(request) == (Action.ANSWERED, "replaces", 403)
    assert judged(request, replace(CARRIER, allow_replaces=True))[0] is Action.PASSED


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"raw": b"x" * 8001}, 513, "too_large"),
        ({"headers": 101}, 400, "too_many_headers"),
        ({"crypto_lines": 9}, 488, "too_many_crypto_lines"),
    ],
)
def test_bounds(change, status, reason):
    assert judged(replace(INVITE, **change)) == (Action.ANSWERED, reason, status)


@pytest.mark.parametrize("line", ["Via: SIP/2.0/UDP a;maddr=192.0.2.99", "v :SIP/2.0/UDP a ; MADDR = b"])
def test_a_via_that_points_elsewhere_gets_no_answer(line):
    raw = f"INVITE sip:x SIP/2.0\r\n{line}\r\n\r\n".encode()
    assert judged(replace(INVITE, raw=raw)) == (Action.DROPPED, "via_maddr", 0)


def test_an_ack_is_never_answered():
    assert judged(replace(INVITE, method="ACK", raw=b"x" * 9000))[0] is Action.DROPPED


@pytest.mark.parametrize("reason", ["draining", "overload"])
def test_new_calls_are_put_off_running_ones_are_not(reason):
    edge = policy(CARRIER)
    edge.refuse_new(reason)
    verdict = edge.decide(INVITE, 0.0)
    assert (verdict.status, verdict.retry_after_s, verdict.reason) == (503, 5, reason)
    for running in ({"to_tag": True}, {"in_transaction": True}, {"method": "BYE", "to_tag": True}):
        assert edge.decide(replace(INVITE, **running), 0.0).action is Action.PASSED
    edge.refuse_new(None)
    assert edge.decide(INVITE, 0.0).action is Action.PASSED


def test_full_call_slots_are_counted():
    edge = policy(CARRIER)
    edge.set_full(True)
    assert edge.decide(INVITE, 0.0).status == 503
    assert edge.counters["full"] == 1


def test_the_bucket_keeps_room_for_running_calls():
    edge = policy(replace(CARRIER, requests_per_s=10.0, burst=8))
    passed = [edge.decide(INVITE, 0.0).action for _ in range(10)]
    assert passed.count(Action.PASSED) == 7
    assert edge.decide(INVITE, 0.0).status == 503
    assert edge.decide(replace(INVITE, method="BYE", to_tag=True), 0.0).action is Action.PASSED
    assert edge.decide(replace(INVITE, method="BYE", to_tag=True), 0.0).reason == "rate"
    assert edge.decide(INVITE, 1.0).action is Action.PASSED


def test_a_late_retransmission_is_no_second_call():
    raw = b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK7;rport\r\n\r\n"
    first = replace(INVITE, raw=raw, call_id="a@b")
    edge = policy(CARRIER)
    assert edge.decide(first, 0.0).action is Action.PASSED
    assert edge.decide(replace(first, in_transaction=True), 0.5).action is Action.PASSED
    assert edge.decide(first, 2.0).reason == "late_retransmission"
    assert edge.decide(replace(first, raw=raw.replace(b"K7", b"K8")), 2.0).action is Action.PASSED
    assert edge.decide(first, 40.0).action is Action.PASSED


def test_the_tables_are_bounded():
    edge = policy(EdgeTrunk("all", (ip_network("0.0.0.0/0"),)), max_sources=16)
    for i in range(1000):
        edge.decide(replace(INVITE, source_address=f"10.0.{i // 256}.{i % 256}"), float(i))
    assert len(edge._buckets) <= 16
    assert len(edge._found) <= 16


def test_whom_we_dialled_may_speak_inside_the_dialog_only():
    edge = policy(CARRIER)
    changes = []
    edge.on_change(lambda: changes.append(len(edge.sources)))
    edge.allow_dialled("203.0.113.5")
    edge.allow_dialled("203.0.113.5")
    bye = replace(INVITE, source_address="203.0.113.5", method="BYE", to_tag=True)
    assert edge.decide(bye, 0.0).action is Action.PASSED
    assert edge.decide(replace(bye, method="INVITE", to_tag=False), 0.0).reason == "unknown_source"
    edge.release_dialled("203.0.113.5")
    assert edge.decide(bye, 0.0).action is Action.PASSED
    edge.release_dialled("203.0.113.5")
    assert edge.decide(bye, 0.0).action is Action.DROPPED
    assert changes == [2, 1]


REQUESTS = st.builds(
    EdgeRequest,
    transport=st.sampled_from(["UDP", "TCP", "TLS"]),
    source_address=st.one_of(st.ip_addresses().map(str), st.text(max_size=20), st.just("192.0.2.7")),
    source_port=st.integers(0, 65535),
    method=st.one_of(st.sampled_from(["INVITE", "ACK", "BYE", "REFER", "OPTIONS"]), st.text(max_size=10)),
    raw=st.binary(max_size=9000),
    headers=st.integers(0, 200),
    crypto_lines=st.integers(0, 20),
    replaces=st.booleans(),
    to_tag=st.booleans(),
    in_transaction=st.booleans(),
)


@given(st.lists(REQUESTS, max_size=20), st.floats(0, 1e9))
def test_every_request_gets_one_verdict_and_one_count(requests, now):
    edge = policy(CARRIER)
    for request in requests:
        verdict = edge.decide(request, now)
        if verdict.action is Action.ANSWERED:
            assert 400 <= verdict.status <= 699
            assert request.method != "ACK"
            assert edge.trunk_of(request.source_address) == "carrier"
        if verdict.action is Action.PASSED:
            assert len(request.raw) <= 8000
    assert sum(edge.counters.values()) == len(requests)
