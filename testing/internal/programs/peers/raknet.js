// A peer that speaks RakNet by the C++ library itself (raknet-native).
//
//   node raknet.js server ADDRESS PORT BYTES
//   node raknet.js client ADDRESS PORT BYTES LOGIN_BYTES
//   node raknet.js echo ADDRESS PORT
//   node raknet.js play ADDRESS PORT
//
// The server sends BYTES to each client, reliable and in order: as the
// connection opens, or once its login has arrived where LOGIN_BYTES is not 0.
// The client writes the seconds from its first datagram to the last byte. Either
// writes `ready` once it can be spoken to.
//
// `echo` is a server that sends each message back. `play` is a client that sends
// it one every 50 ms until it reads a line; then it writes, as JSON, how many
// there were, how many came back, and the longest time between two of these.
'use strict'

// The package looks for a build for this very major version of the kernel; the
// one that it ships needs none in particular.
require.cache[require.resolve('raknet-native/binding')] = {
  exports: require('raknet-native/prebuilds/linux-5-x64/node-raknet.node')
}
const { Client, Server, PacketPriority, PacketReliability } =
  require('raknet-native')

// A message is not larger than what Bedrock sends in one batch.
const MESSAGE_BYTES = 65536
const USER_MESSAGE = 0xfe

function send (peer, bytes) {
  for (let left = bytes; left > 0; left -= MESSAGE_BYTES) {
    const message = Buffer.alloc(Math.min(left, MESSAGE_BYTES), 0x5a)
    message[0] = USER_MESSAGE
    peer.send(message, PacketPriority.HIGH_PRIORITY,
      PacketReliability.RELIABLE_ORDERED, 0)
  }
}

function serve (address, port, bytes, loginBytes) {
  const server = new Server(address, port, {
    maxConnections: 100,
    protocolVersion: 10,
    message: Buffer.from('MCPE;udpgate;1;1;0;100;1;udpgate;Survival;')
  })
  const received = new Map()
  server.on('openConnection', (client) => {
    if (loginBytes === 0) send(client, bytes)
  })
  server.on('encapsulated', ({ buffer, guid }) => {
    const before = received.get(guid) || 0
    received.set(guid, before + buffer.length)
    if (before < loginBytes && before + buffer.length >= loginBytes) {
      send(server.connections.get(guid), bytes)
    }
  })
  server.listen()
  console.log('ready')
}

function connect (address, port, bytes, loginBytes) {
  const client = new Client(address, port, { protocolVersion: 10 })
  let received = 0
  let begin
  client.on('connect', () => send(client, loginBytes))
  client.on('encapsulated', ({ buffer }) => {
    received += buffer.length
    if (received < bytes) return
    console.log((performance.now() - begin) / 1000)
    process.exit(received === bytes ? 0 : 1)
  })
  client.on('disconnect', ({ reason }) => {
    console.error(`disconnected, reason ${reason}, ${received} bytes received`)
    process.exit(1)
  })
  begin = performance.now()
  client.connect()
  // The library's thread alone does not keep the process.
  setInterval(() => {}, 1000)
}

function echo (address, port) {
  const server = new Server(address, port, {
    maxConnections: 100,
    protocolVersion: 10,
    message: Buffer.from('MCPE;udpgate;1;1;0;100;1;udpgate;Survival;')
  })
  server.on('encapsulated', ({ buffer, guid }) => {
    server.connections.get(guid).send(Buffer.from(buffer),
      PacketPriority.HIGH_PRIORITY, PacketReliability.RELIABLE_ORDERED, 0)
  })
  server.listen()
  console.log('ready')
}

function play (address, port) {
  const client = new Client(address, port, { protocolVersion: 10 })
  let sent = 0
  let received = 0
  let last
  let gap = 0
  let timer
  client.on('connect', () => {
    last = performance.now()
    timer = setInterval(() => {
      sent++
      client.send(Buffer.alloc(100, USER_MESSAGE),
        PacketPriority.HIGH_PRIORITY, PacketReliability.RELIABLE_ORDERED, 0)
    }, 50)
  })
  client.on('encapsulated', () => {
    if (++received === 1) console.log('ready')
    const now = performance.now()
    gap = Math.max(gap, now - last)
    last = now
  })
  client.on('disconnect', ({ reason }) => {
    console.error(`disconnected, reason ${reason}, ${received} messages received`)
    process.exit(1)
  })
  process.stdin.once('data', () => {
    clearInterval(timer)
    setTimeout(() => {
      console.log(JSON.stringify({ sent, received, gap_milliseconds: gap }))
      process.exit(0)
    }, 500)
  })
  client.connect()
}

const [role, address, port, bytes, loginBytes] = process.argv.slice(2)
const run = { server: serve, client: connect, echo, play }[role]
run(address, Number(port), Number(bytes), Number(loginBytes))
