//! Ancestors, freezes and unit costs of the network against brute force, on random trees as deep as allowed.
