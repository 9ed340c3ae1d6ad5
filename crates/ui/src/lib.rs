//! Draws what a policy considers: the candidates of the current tick in the scene, coloured by value.
