"""What both faces of the SDK share: each operation once, as steps that either face runs (launch/control/drivers.py)."""
