import pytest

from sipivr.ua import edge_binding
from sipivr.ua.endpoint import PJUserAgent
from sipivr.ua.ports import UAError
from sipivr.ua.settings import Listener, UASettings


async def test_without_edge_c_nothing_listens_outside(monkeypatch):
    monkeypatch.setattr(edge_binding, "available", lambda: False)
    agent = PJUserAgent(UASettings(listeners=(Listener(), Listener(address="0.0.0.0"))), handler=None)
    with pytest.raises(UAError, match=r"edge\.c"):
        await agent.start()


def test_pjsips_log_never_shows_bodies():
    with pytest.raises(ValueError, match="0 to 3"):
        UASettings(log_level=4)
