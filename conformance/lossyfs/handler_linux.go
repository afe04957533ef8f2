package lossyfs

import (
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const rootID = fuse.FUSE_ROOT_ID

// remembered is how long the kernel may keep what it knows: everything that changes goes through it.
const remembered = time.Hour

// handler answers the kernel's requests.
type handler struct {
	fuse.RawFileSystem
	fs *FS
}

// lock takes the file system for an operation, and returns the inode that it is about.
func (h *handler) lock(id uint64) (n *inode, unlock func(), status fuse.Status) {
	h.fs.mu.Lock()
	if h.fs.off {
		h.fs.mu.Unlock()
		return nil, nil, fuse.EIO
	}
	n = h.fs.inodes[id]
	if n == nil {
		h.fs.mu.Unlock()
		return nil, nil, fuse.ENOENT
	}
	return n, h.fs.mu.Unlock, fuse.OK
}

// changing does a change of an inode.
func (h *handler) changing(id uint64, do func(n *inode) fuse.Status) fuse.Status {
	defer h.tell()
	n, unlock, status := h.lock(id)
	if status != fuse.OK {
		return status
	}
	defer unlock()
	doIt, acknowledged := h.fs.change()
	if doIt {
		status = do(n)
	}
	if !acknowledged {
		return fuse.EIO
	}
	return status
}

// tell tells who wants to know of changes.
func (h *handler) tell() {
	h.fs.mu.Lock()
	changed := h.fs.changed
	h.fs.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (n *inode) attributes(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink = n.id, n.mode|syscall.S_IFREG, 1
	if n.dir {
		out.Mode = n.mode | syscall.S_IFDIR
	}
	out.Size, out.Blksize = uint64(len(n.data)), pageBytes
	out.Blocks = (out.Size + 511) / 512
}

func (n *inode) entry(out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(remembered)
	out.SetAttrTimeout(remembered)
	n.attributes(&out.Attr)
}

func (h *handler) String() string { return "lossyfs" }

func (h *handler) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 20
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks, Bavail: blocks, Bsize: pageBytes, Frsize: pageBytes, NameLen: 255}
	return fuse.OK
}

func (h *handler) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

func (h *handler) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n, unlock, status := h.lock(header.NodeId)
	if status != fuse.OK {
		return status
	}
	defer unlock()
	found := n.names[name]
	if found == nil {
		return fuse.ENOENT
	}
	found.entry(out)
	return fuse.OK
}

func (h *handler) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, unlock, status := h.lock(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer unlock()
	out.SetTimeout(remembered)
	n.attributes(&out.Attr)
	return fuse.OK
}

func (h *handler) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return h.changing(in.NodeId, func(n *inode) fuse.Status {
		if size, ok := in.GetSize(); ok {
			n.truncate(int64(size))
		}
		if mode, ok := in.GetMode(); ok {
			n.mode = mode & 0o7777
		}
		out.SetTimeout(remembered)
		n.attributes(&out.Attr)
		return fuse.OK
	})
}

// add makes a file or directory. Its caller holds mu.
func (h *handler) add(parent *inode, name string, n *inode) *inode {
	h.fs.next++
	n.id = h.fs.next
	h.fs.inodes[n.id] = n
	parent.name(naming{added: name, target: n})
	return n
}

func (h *handler) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return h.changing(in.NodeId, func(parent *inode) fuse.Status {
		if parent.names[name] != nil {
			return fuse.Status(syscall.EEXIST)
		}
		n := &inode{dir: true, mode: in.Mode & 0o7777, names: map[string]*inode{}, safeNames: map[string]*inode{}}
		h.add(parent, name, n).entry(out)
		return fuse.OK
	})
}

func (h *handler) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return h.changing(in.NodeId, func(parent *inode) fuse.Status {
		if parent.names[name] != nil {
			return fuse.Status(syscall.EEXIST)
		}
		h.add(parent, name, &inode{mode: in.Mode & 0o7777}).entry(&out.EntryOut)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
		return fuse.OK
	})
}

// Open opens a file. The kernel empties one by SetAttr: it was not told that Open would do so.
func (h *handler) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	_, unlock, status := h.lock(in.NodeId)
	if status != fuse.OK {
		return status
	}
	unlock()
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (h *handler) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, unlock, status := h.lock(in.NodeId)
	if status != fuse.OK {
		return nil, status
	}
	defer unlock()
	if in.Offset >= uint64(len(n.data)) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return fuse.ReadResultData(buf[:copy(buf, n.data[in.Offset:])]), fuse.OK
}

func (h *handler) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	status := h.changing(in.NodeId, func(n *inode) fuse.Status {
		n.write(int64(in.Offset), data)
		return fuse.OK
	})
	return uint32(len(data)), status
}

func (h *handler) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (h *handler) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	defer h.tell()
	n, unlock, status := h.lock(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer unlock()
	// One in which the power goes off has not come to its end.
	if _, acknowledged := h.fs.change(); !acknowledged {
		return fuse.EIO
	}
	if !h.fs.ignoreSync {
		n.sync()
	}
	return fuse.OK
}

func (h *handler) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return h.Fsync(cancel, in)
}

func (h *handler) Unlink(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return h.changing(header.NodeId, func(parent *inode) fuse.Status {
		if parent.names[name] == nil {
			return fuse.ENOENT
		}
		parent.name(naming{removed: name})
		return fuse.OK
	})
}

func (h *handler) Rmdir(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return h.changing(header.NodeId, func(parent *inode) fuse.Status {
		switch n := parent.names[name]; {
		case n == nil:
			return fuse.ENOENT
		case len(n.names) > 0:
			return fuse.Status(syscall.ENOTEMPTY)
		}
		parent.name(naming{removed: name})
		return fuse.OK
	})
}

func (h *handler) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	return h.changing(in.NodeId, func(parent *inode) fuse.Status {
		target := h.fs.inodes[in.Newdir]
		n := parent.names[from]
		if n == nil || target == nil {
			return fuse.ENOENT
		}
		if there := target.names[to]; there != nil && len(there.names) > 0 {
			return fuse.Status(syscall.ENOTEMPTY)
		}
		if target == parent {
			parent.name(naming{removed: from, added: to, target: n})
			return fuse.OK
		}
		m := &move{from: parent, to: target}
		parent.name(naming{removed: from, move: m})
		target.name(naming{added: to, target: n, move: m})
		return fuse.OK
	})
}

func (h *handler) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	_, unlock, status := h.lock(in.NodeId)
	if status == fuse.OK {
		unlock()
	}
	return status
}

func (h *handler) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n, unlock, status := h.lock(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer unlock()
	names := slices.Sorted(maps.Keys(n.names))
	for i := int(in.Offset); i < len(names); i++ {
		found := n.names[names[i]]
		mode := uint32(syscall.S_IFREG)
		if found.dir {
			mode = syscall.S_IFDIR
		}
		if !out.AddDirEntry(fuse.DirEntry{Name: names[i], Mode: mode, Ino: found.id}) {
			break
		}
	}
	return fuse.OK
}

func (h *handler) ReleaseDir(*fuse.ReleaseIn) {}

func (h *handler) Release(<-chan struct{}, *fuse.ReleaseIn) {}
