from mvmnix.api.policy_report import cases
from mvmnix.api.policy_report.account import Account
from mvmnix.api.policy_report.items import Judge, Judged
from mvmnix.api.policy_report.words import account_lines

__all__ = ["Account", "Judge", "Judged", "account_lines", "cases"]
