"""The pixels' say in the gate: is this an upright frontal film of a chest, whatever its header claims?

`thumbnail` makes any film small and its grey levels comparable, `network` tells kinds of films apart by that,
`finding` says in a sentence what speaks against a film; `gate` asks it. The network is fitted by
`python -m training.validity` and travels in the package as `validity.safetensors`.
"""
