"""A dialogue whose rules are checked after every event."""

import pytest

from .driver import Driver, check_rules


@pytest.fixture
def call() -> Driver:
    driver = Driver()
    driver.seen = lambda the_driver, _event, _effects: check_rules(the_driver)
    return driver
