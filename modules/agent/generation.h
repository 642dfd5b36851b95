// Tells the workload which of its lives this is: a number in /run/mvm/generation, another one after each restoration.
#ifndef AGENT_GENERATION_H
#define AGENT_GENERATION_H

// Make the file in what is to be the workload's root. Where it can't be made, the machine has none, and the console says why.
void generation_make(const char *root);
// Draw another number, from the kernel's generator. -1 with error_set() called.
int generation_renew(void);

#endif
