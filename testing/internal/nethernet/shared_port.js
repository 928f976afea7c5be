// One UDP port in front of many peer connections, for stacks that have a port
// for each connection: datagrams go to the connection whose ufrag the STUN
// request of their sender names (RFC 8489, section 14.3).
'use strict'

const dgram = require('dgram')

const MAGIC_COOKIE = 0x2112a442
const USERNAME = 0x0006

// The ufrag of the side that a Binding request goes to; null where it is none.
function ufragOf (datagram) {
  if (datagram.length < 20 || datagram.readUInt16BE(0) !== 0x0001 ||
      datagram.readUInt32BE(4) !== MAGIC_COOKIE) return null
  for (let at = 20; at + 4 <= datagram.length;) {
    const length = datagram.readUInt16BE(at + 2)
    if (datagram.readUInt16BE(at) === USERNAME) {
      return datagram.toString('utf8', at + 4, at + 4 + length).split(':')[0]
    }
    at += 4 + length + (-length & 3)
  }
  return null
}

class SharedPort {
  constructor (address, port) {
    // Of each ufrag, where its connection listens.
    this.targets = new Map()
    // Of each client, the socket by which it reaches its connection.
    this.sockets = new Map()
    this.address = address
    this.front = dgram.createSocket('udp4')
    this.front.on('message', (datagram, from) => this.forward(datagram, from))
    this.front.bind(port, address)
  }

  add (ufrag, port) {
    this.targets.set(ufrag, port)
  }

  forward (datagram, from) {
    const name = `${from.address}:${from.port}`
    let socket = this.sockets.get(name)
    if (!socket) {
      const port = this.targets.get(ufragOf(datagram))
      if (port === undefined) return
      socket = dgram.createSocket('udp4')
      socket.on('message', (reply) => this.front.send(reply, from.port, from.address))
      socket.bind(0, this.address)
      socket.target = port
      this.sockets.set(name, socket)
    }
    socket.send(datagram, socket.target, this.address)
  }
}

module.exports = { SharedPort }
