"""All scenarios, in the order of the table."""

import failing
import registering
import settings_of_master
from scenario import SCENARIOS

PARTS = (registering, failing, settings_of_master)
ALL = [entry for part in PARTS for entry in SCENARIOS if entry.run.__module__ == part.__name__]
