"""Building blocks of the models: graphs, losses, exact top-k."""
