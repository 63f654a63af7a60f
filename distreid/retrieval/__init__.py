"""Who is near whom: exact nearest neighbours, k-reciprocal sets, sparse Jaccard distances. Labels and re-ranking stand on it."""
