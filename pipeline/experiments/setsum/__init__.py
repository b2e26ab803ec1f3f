"""Visual Set-Sum (MoXI, Sec. 4.1, Fig. 2): a task whose interactions are known.

A second tile with the same digit adds nothing to the label, so a method that sees interactions puts
it last, and one that scores tiles alone does not. The game is the log-odds of the label. A model of
plain labels (training.softness=0) calls each partial sum with confidence, which leaves the order of
the log-odds of other sums to chance: there MoXI is still ahead of single scores, but behind exact
Shapley values, which see that a duplicate's last removal costs nothing. With soft targets, and a
perfect model, the game is Set-Sum itself, up to its scale.
"""
