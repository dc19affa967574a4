"""Makes a candidate the champion: copies its model, hands it over, and moves the one pointer."""
