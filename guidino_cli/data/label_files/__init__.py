"""Regions as annotation tools store them: polygons and run lengths, to and from masks."""
