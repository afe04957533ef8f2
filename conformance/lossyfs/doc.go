// Package lossyfs is a file system that can lose power, to prove what a program makes safe. It is mounted
// with FUSE (Linux, as root), lives in memory, and keeps for each file what was synced, and everything that
// was done to it since. AfterLoss makes of it the file system that a machine might find when it comes up
// again.
//
// # What is safe
//
// No more than POSIX says, and none of what journalling file systems add to it:
//
//   - fsync and fdatasync of a file make its content and length safe, not the name that leads to it, also
//     where the file is new (ext4 and xfs make the name safe with it);
//   - fsync of a directory makes safe which names it has and which files they lead to, not what these files
//     hold;
//   - a rename is atomic: after a loss it is done or it is not, also from one directory to another. The fsync of
//     either makes such a one safe, and of what was changed before in the other what happened to that name.
//
// # What is lost
//
// Of everything else any part may have reached the disk. A seed chooses for each loss one of
//
//   - nothing that was not synced;
//   - all of it, as if only the process had died;
//   - all up to a moment, for each file and directory another one, the last write in part: a disk that is slow
//     (what was moved from one directory to another goes by the moment of one of the two);
//   - any subset of the writes, truncations and changes of names since the last sync, each write whole;
//   - any subset of the 4,096 byte pages of each write;
//   - any subset of the 512 byte sectors of each write.
//
// A sector is never torn: each holds one of the contents that it had since the last sync. A file is as
// long as its last kept byte needs, or, as often, as long as it was at any moment since the last sync, with
// zeros where nothing was kept: the length may be safe before the data. Changes of names are kept in their
// order but not all (a file may have its new name without another one, made before, being there) where a
// subset is chosen. What was made safe is never lost: disks that lie are what SetIgnoreSync is for, with which
// fsync does nothing and says that it has.
//
// The process that mounts the file system must not use it: a fault on a mapped page stops one of its
// threads where Go can't see it, and with that, sooner or later, the goroutines that should serve the page.
package lossyfs
