"""Two runs of the same games, row by row: how far orders, predictions and areas have drifted.

`matching` finds the rows that belong together, and refuses or counts the others; `orders` holds two
orders against each other; `drift` makes a row of every pair, `agreement` a line of every game,
method and objective; `page` shows the images that drifted most.
"""
