//! The host before there is trouble: what is missing, in the way or left over, why it matters and what mends it.
//! Nothing is changed here.
