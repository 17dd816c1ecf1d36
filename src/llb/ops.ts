// The LLB messages under names of their own room: other rooms never import the generated code.
export * from '../pb/ops.ts';
