"""Towards backends: connections, and what the end of an attempt means.

pool         warm connections to one backend
chaos        faults on purpose: which attempt meets which
faulty       connections that misbehave as they are told
classify     from error answers to outcomes
verdicts     the table of statuses, codes and messages that ``classify`` reads
said         reads error bodies of all engines and providers
answers      the outcome of an answer with status 200
retry_after  reads after how many seconds to ask a backend again
cleanse      removes paths, code and addresses from messages of backends
"""
