"""CloudFront, read from compiled output: template, Functions and Lambda packages as files, turned back into decisions.

Written from AWS's guides, apart from the compiler and from everything the compiler compiles: it imports neither, and
tests/treaty/test_round_trip.py holds it to that. `DG:x` in what follows is the page x of CloudFront's developer guide.

`Distribution` is the door: it takes a folder as `nearshelf aws compile` fills it, and viewers' requests.
"""
