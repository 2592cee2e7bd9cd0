"""Lifetime: on how many days a user comes back, what predicts it, and what a ranker might change of it.

==================  ====================================================================================================
LT-n observed       days among the next n on which the user is active; unknown where the log ends before (``observed``)
retention           share of users active on each of the next n days, its area their mean LT-n (``retention``)
next return         days until the next active day; censored at the log's end, so Kaplan-Meier (``returns``), as the
                    return time of RLUR (Cai et al., arXiv 2302.01724)
surrogate index     LT-n as a regression on the signals of a first window, fitted on an earlier cohort, judged on a
                    later against ``naive`` (``plan``, ``signals``, ``cohort``, ``surrogate``; Athey, Chetty, Imbens,
                    Kang, NBER w26463; for long-term satisfaction: arXiv 2311.11922)
policy value        what the order of another ranker would have been worth on logged impressions: self-normalised
                    importance weighting and doubly robust (``policy``), from propensities of positions or of ranks
                    (``propensities``)
LT-n proxy          the surrogate index of the signals that a policy is estimated to give (``under_policy``); its
                    intervals fit the surrogate again in each draw of users (``proxies``, ``refit``)
==================  ====================================================================================================

Only the first three are measured. A proxy holds as far as its surrogate explains return, so that one's R² and
calibration on a later cohort stand beside it. Days are UTC calendar days numbered from 1970.
"""
