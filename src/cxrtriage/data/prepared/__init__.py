"""Films in, the arrays that the network sees out: one film (`prepare`), many (`build`), a set on disk (`store`)."""
