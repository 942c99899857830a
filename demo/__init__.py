"""A demonstration of Whispertune on data that it makes itself."""
