"""The download worker: a program of the sandbox that speaks with servers and reads what they send.

It imports Python's own modules and this folder alone: the sandbox shows it nothing else.
"""
