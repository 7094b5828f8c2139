"""How it is learned: learners behind two verbs, the inner loop, and the outer rules. They know no speech."""
